"""Tasks of curl, wget, git and git-lfs: plain downloads with resume, clones, pointers and their content."""

import hashlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from content import digests, model_folder, sha256, weights
from hub_files import new_repo
from serving import NotApplicable, Place, Tasks, serve

tasks = Tasks()
TOOL = os.environ.get("CLIENT_TOOL", "")
SIZE = 24_000_000


def only(*tools: str) -> Callable[[Callable[[Place], object]], Callable[[Place], object]]:
    """A task of some tools: not applicable to the others; an error where the tool is not installed."""

    def put(do: Callable[[Place], object]) -> Callable[[Place], object]:
        def done(at: Place) -> object:
            if TOOL not in tools:
                raise NotApplicable(f"a task of {' and '.join(tools)}")
            assert shutil.which(TOOL), f"{TOOL} is not installed"
            return do(at)

        return done

    return put


def run(*argv: str | Path, at: Place, check: bool = True, **more: str | None) -> "subprocess.CompletedProcess[str]":
    more = {"GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(at.folder), **more}
    done = subprocess.run(
        [*argv], env=at.environment(**more), cwd=at.folder, capture_output=True, text=True, timeout=280
    )
    assert not check or done.returncode == 0, f"{argv[:3]}: {done.stdout[-500:]} {done.stderr[-1000:]}"
    return done


def argv_of(at: Place, url: str, to: Path, *, resume: bool = False, slowly: bool = False) -> list[str]:
    """The command line that downloads an address to a file, with the user's token."""
    header = f"Authorization: Bearer {at.tokens['will']}"
    if TOOL == "curl":
        extra = [*(["-C", "-"] if resume else []), *(["--limit-rate", "6M"] if slowly else [])]
        return ["curl", "-sSfL", *extra, "-H", header, "-o", str(to), url]
    extra = [*(["-c"] if resume else []), *(["--limit-rate=6m"] if slowly else [])]
    return ["wget", "-q", *extra, f"--header={header}", "-O", str(to), url]


@tasks("download a large file")
@only("curl", "wget")
def download(at: Place) -> None:
    data = weights(SIZE)
    repo = new_repo(at, {"w.safetensors": data})
    run(*argv_of(at, f"{at.url}/{repo}/resolve/main/w.safetensors", at.folder / "w"), at=at)
    assert sha256(at.folder / "w") == hashlib.sha256(data).hexdigest()


@tasks("cut in the middle and continued")
@only("curl", "wget")
def resume(at: Place) -> None:
    data, to = weights(SIZE), at.folder / "w"
    url = f"{at.url}/{new_repo(at, {'w.safetensors': data})}/resolve/main/w.safetensors"
    process = subprocess.Popen(argv_of(at, url, to, slowly=True))
    while process.poll() is None and (not to.exists() or to.stat().st_size < SIZE // 4):
        time.sleep(0.01)
    process.kill()
    process.wait()
    cut = to.stat().st_size
    assert SIZE // 4 <= cut < SIZE, "the download was not cut in its middle"
    with open(to, "r+b") as file:
        file.write(b"MARK")  # still there afterwards: the first part was not sent again
    run(*argv_of(at, url, to, resume=True), at=at)
    assert to.stat().st_size == len(data)
    with open(to, "r+b") as file:
        assert file.read(4) == b"MARK", "the file was sent from its beginning again"
        file.seek(0)
        file.write(data[:4])
    assert sha256(to) == hashlib.sha256(data).hexdigest()


@tasks("a private file: with a token, and refused without")
@only("curl", "wget")
def private(at: Place) -> None:
    url = f"{at.url}/{new_repo(at, {'a.txt': b'a'}, private=True)}/resolve/main/a.txt"
    run(*argv_of(at, url, at.folder / "a"), at=at)
    assert (at.folder / "a").read_bytes() == b"a"
    at.tokens = at.tokens | {"will": "hf_wrong"}
    assert run(*argv_of(at, url, at.folder / "b"), at=at, check=False).returncode != 0
    assert not (at.folder / "b").exists() or not (at.folder / "b").read_bytes()


@tasks("ranges, HEAD, and If-None-Match")
@only("curl")
def ranges(at: Place) -> None:
    data = weights(3_000_000)
    url = f"{at.url}/{new_repo(at, {'w.safetensors': data})}/resolve/main/w.safetensors"
    token = ["-H", f"Authorization: Bearer {at.tokens['will']}"]
    run("curl", "-sSfL", *token, "-r", "1000000-1000099", "-o", "part", url, at=at)
    assert (at.folder / "part").read_bytes() == data[1_000_000:1_000_100]
    run("curl", "-sSfL", *token, "-r", "-5", "-o", "tail", url, at=at)
    assert (at.folder / "tail").read_bytes() == data[-5:]
    head = {
        k.lower(): v
        for k, _, v in (x.partition(": ") for x in run("curl", "-sSIL", *token, url, at=at).stdout.splitlines())
    }
    assert head["content-length"] == str(len(data)) and head["etag"].strip('"') == hashlib.sha256(data).hexdigest()
    beyond = run("curl", "-s", *token, "-r", f"{len(data)}-", "-o", "x", "-w", "%{http_code}", url, at=at).stdout
    assert beyond == "416", beyond


def clone_url(at: Place, repo: str, who: str | None = None) -> str:
    scheme, _, rest = at.url.partition("://")
    return f"{scheme}://{who}:{at.tokens[who]}@{rest}/{repo}" if who else f"{at.url}/{repo}"


def model_repo(at: Place, **options: bool) -> tuple[str, Path]:
    from huggingface_hub import HfApi

    repo, source = new_repo(at, **options), model_folder(at.folder / "source")
    HfApi(token=at.tokens["will"]).upload_folder(repo_id=repo, folder_path=source)
    return repo, source


@tasks("clone: history, small files, pointers of large ones")
@only("git")
def clone(at: Place) -> None:
    repo, source = model_repo(at)
    run("git", "clone", "-q", clone_url(at, repo), "clone", at=at, GIT_LFS_SKIP_SMUDGE="1")
    pointer = (at.folder / "clone" / "model.safetensors").read_text()
    assert f"oid sha256:{sha256(source / 'model.safetensors')}" in pointer
    assert (at.folder / "clone" / "sub" / "words.txt").read_bytes() == b"a\nb\n"
    sha = run("git", "-C", "clone", "rev-parse", "HEAD", at=at).stdout.strip()
    from huggingface_hub import HfApi

    assert sha == HfApi().repo_info(repo).sha
    run("git", "-C", "clone", "fsck", "--strict", at=at)
    assert run("git", "-C", "clone", "status", "--porcelain", at=at).stdout == ""


@tasks("clone of a branch, a tag, one commit deep; fetch of what came later")
@only("git")
def refs(at: Place) -> None:
    from huggingface_hub import HfApi

    api, repo = HfApi(token=at.tokens["will"]), new_repo(at, {"a.txt": b"one"})
    api.create_branch(repo, branch="old")
    api.create_tag(repo, tag="v1")
    api.upload_file(path_or_fileobj=b"two", path_in_repo="a.txt", repo_id=repo)
    for ref in ("old", "v1"):
        run("git", "clone", "-q", "--depth", "1", "--branch", ref, clone_url(at, repo), ref, at=at)
        assert (at.folder / ref / "a.txt").read_bytes() == b"one"
    run("git", "clone", "-q", clone_url(at, repo), "main", at=at)
    api.upload_file(path_or_fileobj=b"three", path_in_repo="a.txt", repo_id=repo)
    run("git", "-C", "main", "pull", "-q", "--ff-only", at=at)
    assert (at.folder / "main" / "a.txt").read_bytes() == b"three"


@tasks("clone of a private repository: with a token, and refused without")
@only("git", "git-lfs")
def private_clone(at: Place) -> None:
    repo, source = model_repo(at, private=True)
    assert run("git", "clone", "-q", clone_url(at, repo), "none", at=at, check=False).returncode != 0
    run("git", "clone", "-q", clone_url(at, repo, "will"), "clone", at=at, GIT_LFS_SKIP_SMUDGE="1")
    if TOOL == "git-lfs":
        run("git", "-C", "clone", "lfs", "pull", at=at)
        assert digests(at.folder / "clone") == digests(source)


@tasks("clone and pull of large files, with their checksums")
@only("git-lfs")
def lfs_pull(at: Place) -> None:
    repo, source = model_repo(at)
    run("git", "lfs", "install", "--skip-repo", at=at, GIT_CONFIG_GLOBAL=str(at.folder / "gitconfig"))
    run("git", "clone", "-q", clone_url(at, repo), "clone", at=at, GIT_CONFIG_GLOBAL=str(at.folder / "gitconfig"))
    assert digests(at.folder / "clone") == digests(source)
    run("git", "-C", "clone", "lfs", "fsck", at=at)


@tasks("push of large files to the LFS store")
@only("git-lfs")
def lfs_push(at: Place) -> None:
    repo, _ = model_repo(at)
    config = str(at.folder / "gitconfig")
    run("git", "lfs", "install", "--skip-repo", at=at, GIT_CONFIG_GLOBAL=config)
    run("git", "clone", "-q", clone_url(at, repo, "will"), "clone", at=at, GIT_CONFIG_GLOBAL=config)
    data = weights(1_000_000)
    (at.folder / "clone" / "new.safetensors").write_bytes(data)
    who = ("-c", "user.name=will", "-c", "user.email=will@example.com")
    run("git", "-C", "clone", "add", "new.safetensors", at=at, GIT_CONFIG_GLOBAL=config)
    run("git", "-C", "clone", *who, "commit", "-qm", "Add", at=at, GIT_CONFIG_GLOBAL=config)
    run("git", "-C", "clone", "lfs", "push", "origin", "main", at=at, GIT_CONFIG_GLOBAL=config)


@tasks("git push is refused with a sentence that names `hf upload`")
@only("git")
def push(at: Place) -> None:
    repo = new_repo(at, {"a.txt": b"a"})
    run("git", "clone", "-q", clone_url(at, repo, "will"), "clone", at=at)
    who = ("-c", "user.name=will", "-c", "user.email=will@example.com")
    run("git", "-C", "clone", *who, "commit", "-q", "--allow-empty", "-m", "x", at=at)
    done = run("git", "-C", "clone", "push", "origin", "main", at=at, check=False)
    assert done.returncode != 0 and "hf upload" in done.stderr, done.stderr


if __name__ == "__main__":
    serve(tasks)
