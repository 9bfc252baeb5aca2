"""Tasks of the `hf` command: one for each command that the hub serves, named as it is typed."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from content import CARD, digests, model_folder, weights, write
from hub_files import api_of, new_repo, read
from serving import NotApplicable, Place, Tasks, serve

tasks = Tasks()
HF = Path(sys.executable).parent / "hf"
# what 0.36 calls by other names
OLDER = {("repos", "delete-files"): ("repo-files", "delete"), ("repos",): ("repo",)}


def called(at: Place, *argv: str) -> tuple[str, ...]:
    """A command line in the words of this version."""
    if at.client.startswith("0-"):
        for new, old in OLDER.items():
            if argv[: len(new)] == new:
                return (*old, *argv[len(new) :])
    return argv


def hf(at: Place, *argv: str, check: bool = True, home: str | None = None, **more: str | None) -> str:
    """What a command prints on stdout; it must succeed."""
    done = subprocess.run(
        [HF, *called(at, *argv)],
        env=at.environment(home, COLUMNS="250", **more),
        cwd=at.folder,
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )
    assert not check or done.returncode == 0, f"hf {' '.join(argv)}: {done.stdout[-600:]} {done.stderr[-900:]}"
    return done.stdout if done.returncode == 0 else done.stdout + done.stderr


def command(*words: str) -> Callable[[Callable[[Place], object]], Callable[[Place], object]]:
    """A task named by a command; not applicable where this version does not know it."""

    def put(do: Callable[[Place], object]) -> Callable[[Place], object]:
        def done(at: Place) -> object:
            try:
                return do(at)
            except Exception:
                asked = [HF, *called(at, *words), "--help"]
                if subprocess.run(asked, env=at.environment(), capture_output=True, timeout=280).returncode != 0:
                    raise NotApplicable("this version has no such command") from None
                raise

        tasks(f"hf {' '.join(words)}")(done)
        return done

    return put


def says(text: str, *words: str) -> None:
    for word in words:
        assert word in text, f"{word!r} is not in what was printed: {text[-700:]}"


# -- auth ------------------------------------------------------------------------------------------------------------
def logged_in(at: Place) -> None:
    hf(at, "auth", "login", "--token", at.tokens["will"], home="home", HF_TOKEN=None)


@command("auth", "login")
def login(at: Place) -> None:
    logged_in(at)
    assert (at.folder / "home" / "token").read_text() == at.tokens["will"]
    assert hf(at, "auth", "login", "--token", "hf_wrong", home="other", check=False, HF_TOKEN=None)
    assert not (at.folder / "other" / "token").exists()


@tasks("hf auth login (in the browser)")
def browser_login(at: Place) -> None:
    source = HF.parent.parent.glob("lib/python*/site-packages/huggingface_hub/utils/_oauth_device.py")
    if not list(source):
        raise NotApplicable("this version has no login in the browser")
    from approval import approve

    process = subprocess.Popen(
        [HF, "auth", "login"],
        env=at.environment("home", HF_TOKEN=None, PYTHONUNBUFFERED="1", COLUMNS="250"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = ""
        while (line := process.stdout.readline()) and not (code := re.search(r"\b[A-Z]{4}-[A-Z]{4}\b", line)):
            said += line
        assert line, f"no code was shown: {said[-700:]}"
        approve(at, {"user_code": code.group()})
        assert process.wait(60) == 0, said + process.stdout.read()
    finally:
        process.kill()
    says(hf(at, "auth", "whoami", home="home", HF_TOKEN=None), at.user)


@command("auth", "whoami")
def whoami(at: Place) -> None:
    says(hf(at, "auth", "whoami"), at.user)


@command("auth", "list")
def auth_list(at: Place) -> None:
    logged_in(at)
    says(hf(at, "auth", "list", home="home", HF_TOKEN=None), at.user)


@command("auth", "switch")
def switch(at: Place) -> None:
    logged_in(at)
    hf(at, "auth", "login", "--token", at.tokens["wanda"], home="home", HF_TOKEN=None)
    stored = (at.folder / "home" / "stored_tokens").read_text()
    name = re.findall(r"\[(.+?)\]\s*hf_token\s*=\s*" + re.escape(at.tokens["will"]), stored)[0]
    hf(at, "auth", "switch", "--token-name", name, home="home", HF_TOKEN=None)
    says(hf(at, "auth", "whoami", home="home", HF_TOKEN=None), at.user)


@command("auth", "token")
def auth_token(at: Place) -> None:
    logged_in(at)
    says(hf(at, "auth", "token", home="home", HF_TOKEN=None), at.tokens["will"])


@command("auth", "logout")
def logout(at: Place) -> None:
    logged_in(at)
    hf(at, "auth", "logout", home="home", HF_TOKEN=None)
    assert not (at.folder / "home" / "token").exists()


# -- files -----------------------------------------------------------------------------------------------------------
@command("upload")
def upload(at: Place) -> None:
    repo, source = at.name(), model_folder(at.folder / "model")
    hf(at, "upload", repo, str(source))
    assert digests(Path(api_of(at).snapshot_download(repo, local_dir=at.folder / "back"))) == digests(source)
    write(at.folder / "one.txt", b"1")
    hf(at, "upload", repo, "one.txt", "deep/one.txt", "--commit-message", "One")
    assert read(at, repo, "deep/one.txt") == b"1" and api_of(at).list_repo_commits(repo)[0].title == "One"


@tasks("hf upload --create-pr")
def upload_pr(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a"})
    hf(at, "upload", repo, str(model_folder(at.folder / "model", 200_000)), "--create-pr")
    api = api_of(at)
    assert "config.json" not in api.list_repo_files(repo)
    assert "config.json" in api.list_repo_files(repo, revision="refs/pr/1")
    write(at.folder / "more.txt", b"more")
    hf(at, "upload", repo, "more.txt", "--revision", "refs/pr/1")
    assert read(at, repo, "more.txt", revision="refs/pr/1") == b"more"


@tasks("hf upload without the right to write says what may be done")
def upload_refused(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a"})
    write(at.folder / "a.txt", b"b")
    says(hf(at, "upload", repo, "a.txt", check=False, HF_TOKEN=at.tokens["rita"]), "may only read")
    assert read(at, repo, "a.txt") == b"a"


@command("upload-large-folder")
def upload_large(at: Place) -> None:
    repo, source = at.name(), model_folder(at.folder / "model")
    hf(
        at,
        "upload-large-folder",
        repo,
        str(source),
        "--repo-type",
        "model",
        "--no-report" if at.client > "1" else "--no-bars",
    )
    assert digests(Path(api_of(at).snapshot_download(repo, local_dir=at.folder / "back"))) == digests(source)


@command("download")
def download(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a", "w.safetensors": weights(2_000_000), "sub/b.txt": b"b"})
    hf(at, "download", repo, "--local-dir", "all")
    assert set(digests(at.folder / "all")) == {"a.txt", "w.safetensors", "sub/b.txt"}
    hf(at, "download", repo, "sub/b.txt", "--local-dir", "one")
    assert set(digests(at.folder / "one")) == {"sub/b.txt"}
    hf(at, "download", repo, "--include", "*.safetensors", "--local-dir", "some")
    assert set(digests(at.folder / "some")) == {"w.safetensors"}


@command("cp")
def copy(at: Place) -> None:
    repo, target = new_repo(at, {"a.txt": b"a", "w.safetensors": weights(300_000)}), new_repo(at, word="target")
    write(at.folder / "up.txt", b"up")
    hf(at, "cp", "up.txt", f"hf://{repo}/up.txt")
    hf(at, "cp", f"hf://{repo}/up.txt", "down.txt")
    assert (at.folder / "down.txt").read_bytes() == b"up"
    hf(at, "cp", f"hf://{repo}/w.safetensors", f"hf://{target}/w.safetensors")
    assert read(at, target, "w.safetensors") == read(at, repo, "w.safetensors")


@command("repos", "cp")
def repos_copy(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a"})
    hf(at, "repos", "cp", f"hf://{repo}/a.txt", "a.txt")
    assert (at.folder / "a.txt").read_bytes() == b"a"


@command("cache", "ls")
def cache_ls(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a"})
    hf(at, "download", repo, home="home")
    says(hf(at, "cache", "ls", home="home"), repo)


@command("cache", "rm")
def cache_rm(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a"})
    hf(at, "download", repo, home="home")
    hf(at, "cache", "rm", f"model/{repo}", "--yes", home="home")
    assert repo not in hf(at, "cache", "ls", home="home")


@command("cache", "prune")
def cache_prune(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a"})
    hf(at, "download", repo, home="home")
    hf(at, "cache", "prune", "--yes", home="home")


@command("cache", "verify")
def cache_verify(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a", "w.safetensors": weights(200_000)})
    hf(at, "download", repo, home="home")
    hf(at, "cache", "verify", repo, home="home")
    blob = next(f for f in (at.folder / "home").rglob("blobs/*") if f.is_file() and f.stat().st_size > 100_000)
    blob.write_bytes(b"changed")
    says(hf(at, "cache", "verify", repo, home="home", check=False), "w.safetensors")


# -- models, datasets, spaces ----------------------------------------------------------------------------------------
def kind_commands(word: str, kind: str) -> None:
    """`ls`, `info` and `card` of one type of repository."""

    def made(at: Place) -> str:
        options = {"space_sdk": "static"} if kind == "space" else {}
        card = CARD.replace("pipeline_tag: text-classification\n", "sdk: static\n" if kind == "space" else "")
        return new_repo(at, {"README.md": card.encode(), "deep/a.txt": b"a"}, kind, repo_type=kind, **options)

    @command(word, "ls")
    def listing(at: Place) -> None:
        repo = made(at)
        says(hf(at, word, "ls", "--author", at.user, "--limit", "500"), repo)
        says(hf(at, word, "ls", repo, "-R"), "deep/a.txt")

    @command(word, "info")
    def info(at: Place) -> None:
        repo = made(at)
        says(hf(at, word, "info", repo), repo)

    @command(word, "card")
    def card(at: Place) -> None:
        says(hf(at, word, "card", made(at)), "# A model")


for word, kind in (("models", "model"), ("datasets", "dataset"), ("spaces", "space")):
    kind_commands(word, kind)


@command("datasets", "leaderboard")
def leaderboard(at: Place) -> None:
    hf(at, "datasets", "leaderboard", new_repo(at, {"a.txt": b"a"}, "data", repo_type="dataset"))


# -- repos -----------------------------------------------------------------------------------------------------------
@command("repos", "create")
def create(at: Place) -> None:
    repo, private = at.name(), at.name("dataset")
    hf(at, "repos", "create", repo)
    hf(at, "repos", "create", repo, "--exist-ok")
    hf(at, "repos", "create", private, "--repo-type", "dataset", "--private")
    assert api_of(at).repo_info(private, repo_type="dataset").private and api_of(at).repo_exists(repo)


@command("repos", "delete")
def delete(at: Place) -> None:
    repo = new_repo(at)
    hf(at, "repos", "delete", repo, *(["--yes"] if "--yes" in hf(at, "repos", "delete", "--help") else []))
    assert not api_of(at).repo_exists(repo)


@command("repos", "move")
def move(at: Place) -> None:
    repo, to = new_repo(at, {"a.txt": b"a"}), at.name("moved")
    hf(at, "repos", "move", repo, to)
    assert read(at, to, "a.txt") == b"a"


@command("repos", "duplicate")
def duplicate(at: Place) -> None:
    repo, to = new_repo(at, {"a.txt": b"a", "w.safetensors": weights(90_000)}), at.name("copy")
    hf(at, "repos", "duplicate", repo, to)
    assert read(at, to, "w.safetensors") == read(at, repo, "w.safetensors")


@command("repos", "settings")
def settings(at: Place) -> None:
    repo = new_repo(at)
    hf(at, "repos", "settings", repo, "--private", "--gated", "auto")
    found = api_of(at).repo_info(repo)
    assert found.private and found.gated == "auto"


@command("repos", "ls")
def repos_ls(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a"})
    says(hf(at, "repos", "ls", "--limit", "1000"), repo)


@command("repos", "delete-files")
def delete_files(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a", "b.bin": b"b"})
    hf(at, "repos", "delete-files", repo, "*.txt")
    assert set(api_of(at).list_repo_files(repo)) == {".gitattributes", "b.bin"}


@command("repos", "tag", "create")
def tag_create(at: Place) -> None:
    repo = new_repo(at)
    hf(at, "repos", "tag", "create", repo, "v1", "-m", "first")
    assert [t.name for t in api_of(at).list_repo_refs(repo).tags] == ["v1"]


@command("repos", "tag", "list")
def tag_list(at: Place) -> None:
    repo = new_repo(at)
    api_of(at).create_tag(repo, tag="v1")
    says(hf(at, "repos", "tag", "list", repo), "v1")


@command("repos", "tag", "delete")
def tag_delete(at: Place) -> None:
    repo = new_repo(at)
    api_of(at).create_tag(repo, tag="v1")
    hf(at, "repos", "tag", "delete", repo, "v1", "-y")
    assert not api_of(at).list_repo_refs(repo).tags


@command("repos", "branch", "create")
def branch_create(at: Place) -> None:
    repo = new_repo(at)
    hf(at, "repos", "branch", "create", repo, "dev")
    assert {b.name for b in api_of(at).list_repo_refs(repo).branches} == {"main", "dev"}


@command("repos", "branch", "delete")
def branch_delete(at: Place) -> None:
    repo = new_repo(at)
    api_of(at).create_branch(repo, branch="dev")
    hf(at, "repos", "branch", "delete", repo, "dev")
    assert {b.name for b in api_of(at).list_repo_refs(repo).branches} == {"main"}


# -- discussions -----------------------------------------------------------------------------------------------------
def discussed(at: Place, **options: bool) -> str:
    repo = new_repo(at, {"a.txt": b"a"})
    api_of(at).create_discussion(repo, "A question", description="What is it?", **options)
    return repo


@command("discussions", "create")
def discussion_create(at: Place) -> None:
    repo = new_repo(at)
    hf(at, "discussions", "create", repo, "--title", "A question", "--body", "What is it?")
    hf(at, "discussions", "create", repo, "--title", "A change", "--pull-request")
    found = {d.num: (d.title, d.is_pull_request) for d in api_of(at).get_repo_discussions(repo)}
    assert found == {1: ("A question", False), 2: ("A change", True)}


@command("discussions", "list")
def discussion_list(at: Place) -> None:
    says(hf(at, "discussions", "list", discussed(at)), "A question")


@command("discussions", "info")
def discussion_info(at: Place) -> None:
    says(hf(at, "discussions", "info", discussed(at), "1"), "A question")


@command("discussions", "comment")
def discussion_comment(at: Place) -> None:
    repo = discussed(at)
    hf(at, "discussions", "comment", repo, "1", "--body", "An answer")
    assert api_of(at).get_discussion_details(repo, 1).events[-1].content == "An answer"


@command("discussions", "edit")
def discussion_edit(at: Place) -> None:
    repo, api = discussed(at), api_of(at)
    hf(at, "discussions", "edit", repo, "1", api.comment_discussion(repo, 1, "An answer").id, "--body", "A better one")
    assert api.get_discussion_details(repo, 1).events[-1].content == "A better one"


@command("discussions", "rename")
def discussion_rename(at: Place) -> None:
    repo = discussed(at)
    hf(at, "discussions", "rename", repo, "1", "Another title")
    assert api_of(at).get_discussion_details(repo, 1).title == "Another title"


@command("discussions", "close")
def discussion_close(at: Place) -> None:
    repo = discussed(at)
    hf(at, "discussions", "close", repo, "1", "--yes", "--comment", "Done")
    assert api_of(at).get_discussion_details(repo, 1).status == "closed"
    assert "A question" not in hf(at, "discussions", "list", repo)
    says(hf(at, "discussions", "list", repo, "--status", "closed"), "A question")


@command("discussions", "reopen")
def discussion_reopen(at: Place) -> None:
    repo = discussed(at)
    api_of(at).change_discussion_status(repo, 1, "closed")
    hf(at, "discussions", "reopen", repo, "1", "--yes")
    assert api_of(at).get_discussion_details(repo, 1).status == "open"


def changed(at: Place) -> str:
    repo = new_repo(at, {"a.txt": b"old text\n"})
    change = {"path_or_fileobj": b"new text\n", "path_in_repo": "a.txt"}
    api_of(at).upload_file(repo_id=repo, create_pr=True, **change)
    return repo


@command("discussions", "diff")
def discussion_diff(at: Place) -> None:
    says(hf(at, "discussions", "diff", changed(at), "1"), "new text", "old text")


@command("discussions", "merge")
def discussion_merge(at: Place) -> None:
    repo = changed(at)
    hf(at, "discussions", "merge", repo, "1", "--yes", check=False, HF_TOKEN=at.tokens["rita"])
    assert read(at, repo, "a.txt") == b"old text\n", "a reader merged"
    hf(at, "discussions", "merge", repo, "1", "--yes", "--comment", "Thanks")
    assert read(at, repo, "a.txt") == b"new text\n"


# -- collections -----------------------------------------------------------------------------------------------------
def collected(at: Place, *repos: str) -> str:
    api = api_of(at)
    slug = api.create_collection(f"Best {at.client} {at.number}", namespace=at.user).slug
    for repo in repos:
        api.add_collection_item(slug, repo, "model")
    return slug


@command("collections", "create")
def collection_create(at: Place) -> None:
    title = f"Made {at.client} {at.number}"
    hf(at, "collections", "create", title, "--description", "Of models")
    assert title in {c.title for c in api_of(at).list_collections(owner=at.user, limit=100)}


@command("collections", "list")
def collection_list(at: Place) -> None:
    slug = collected(at)
    says(hf(at, "collections", "list", "--owner", at.user, "--limit", "100"), slug)


@command("collections", "info")
def collection_info(at: Place) -> None:
    repo = new_repo(at)
    says(hf(at, "collections", "info", collected(at, repo)), repo)


@command("collections", "add-item")
def collection_add(at: Place) -> None:
    slug, repo = collected(at), new_repo(at)
    hf(at, "collections", "add-item", slug, repo, "model", "--note", "good")
    assert [(i.item_id, i.note) for i in api_of(at).get_collection(slug).items] == [(repo, "good")]


@command("collections", "update-item")
def collection_update_item(at: Place) -> None:
    slug = collected(at, new_repo(at))
    item = api_of(at).get_collection(slug).items[0].item_object_id
    hf(at, "collections", "update-item", slug, item, "--note", "better")
    assert api_of(at).get_collection(slug).items[0].note == "better"


@command("collections", "delete-item")
def collection_delete_item(at: Place) -> None:
    slug = collected(at, new_repo(at))
    hf(at, "collections", "delete-item", slug, api_of(at).get_collection(slug).items[0].item_object_id)
    assert not api_of(at).get_collection(slug).items


@command("collections", "update")
def collection_update(at: Place) -> None:
    slug, title = collected(at), f"Another {at.client}"  # a user's titles are all different
    hf(at, "collections", "update", slug, "--title", title, "--private")
    found = api_of(at).get_collection(slug)
    assert found.title == title and found.private


@command("collections", "delete")
def collection_delete(at: Place) -> None:
    slug = collected(at)
    hf(at, "collections", "delete", slug)
    assert slug not in {c.slug for c in api_of(at).list_collections(owner=at.user, limit=100)}


# -- webhooks --------------------------------------------------------------------------------------------------------
def watching(at: Place) -> str:
    return api_of(at).create_webhook(url=at.webhook, watched=[{"type": "user", "name": at.user}], domains=["repo"]).id


@command("webhooks", "create")
def webhook_create(at: Place) -> None:
    before = {w.id for w in api_of(at).list_webhooks()}
    hf(at, "webhooks", "create", "--url", at.webhook, "--watch", f"user:{at.user}", "--domain", "repo", "--secret", "s")
    assert len({w.id for w in api_of(at).list_webhooks()} - before) == 1


@command("webhooks", "list")
def webhook_list(at: Place) -> None:
    made = watching(at)
    says(hf(at, "webhooks", "list"), made)


@command("webhooks", "info")
def webhook_info(at: Place) -> None:
    says(hf(at, "webhooks", "info", watching(at)), at.webhook)


@command("webhooks", "update")
def webhook_update(at: Place) -> None:
    made = watching(at)
    word = "discussion" if at.client.startswith("2-") else "discussions"  # what this version's own check lets through
    hf(at, "webhooks", "update", made, "--domain", word)
    assert api_of(at).get_webhook(made).domains == ["discussion"]


@command("webhooks", "disable")
def webhook_disable(at: Place) -> None:
    made = watching(at)
    hf(at, "webhooks", "disable", made)
    assert api_of(at).get_webhook(made).disabled


@command("webhooks", "enable")
def webhook_enable(at: Place) -> None:
    made = watching(at)
    api_of(at).disable_webhook(made)
    hf(at, "webhooks", "enable", made)
    assert not api_of(at).get_webhook(made).disabled


@command("webhooks", "delete")
def webhook_delete(at: Place) -> None:
    made = watching(at)
    hf(at, "webhooks", "delete", made, "--yes")
    assert made not in {w.id for w in api_of(at).list_webhooks()}


# -- the rest --------------------------------------------------------------------------------------------------------
@command("lfs-enable-largefiles")
def largefiles(at: Place) -> None:
    subprocess.run(["git", "init", "-q", "repo"], cwd=at.folder, check=True)
    hf(at, "lfs-enable-largefiles", "repo")
    says((at.folder / "repo" / ".git" / "config").read_text(), "lfs-multipart-upload")


@command("env")
def env(at: Place) -> None:
    says(hf(at, "env"), at.url)


@command("version")
def version(at: Place) -> None:
    assert re.search(r"\d+\.\d+", hf(at, "version"))


if __name__ == "__main__":
    serve(tasks)
