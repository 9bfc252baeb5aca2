"""Tasks of `huggingface_hub`: repositories, their refs and listings, copies, and who may see them."""

from pathlib import Path

from content import CARD, digests, model_folder, weights
from hub_files import api_of, needs, new_repo, read
from serving import NotApplicable, Place, Tasks, raises

tasks = Tasks()


@tasks("whoami, login with a token, logout")
def login(at: Place) -> None:
    assert api_of(at).whoami()["name"] == at.user
    assert api_of(at, "rita").whoami()["auth"]["accessToken"]["role"] == "read"
    code = """
import sys, huggingface_hub as h
h.login(token=sys.argv[1])
assert h.get_token() == sys.argv[1] and h.whoami()["name"] == "will"
h.logout()
assert h.get_token() is None
"""
    at.python(code, at.tokens["will"], home="home", HF_TOKEN=None)


@tasks("login in the browser (device code)")
def device_login(at: Place) -> None:
    try:
        from huggingface_hub.utils._oauth_device import poll_device_token, request_device_code
    except ImportError:
        raise NotApplicable("this version has no login in the browser") from None
    from approval import approve

    asked = request_device_code()
    approve(at, asked)
    got = poll_device_token(asked)
    assert api_of(at).whoami(token=got["access_token"])["name"] == at.user


@tasks("create, exist_ok, delete, missing_ok; models, datasets, spaces")
def create_and_delete(at: Place) -> None:
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

    api = api_of(at)
    for kind, options in (("model", {}), ("dataset", {}), ("space", {"space_sdk": "static"})):
        repo = at.name(kind)
        url = api.create_repo(repo, repo_type=kind, **options)
        assert url.repo_id == repo and url.repo_type == kind
        assert api.create_repo(repo, repo_type=kind, exist_ok=True, **options).repo_id == repo
        with raises(HfHubHTTPError, exactly=False, says="409"):
            api.create_repo(repo, repo_type=kind, **options)
        api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, repo_type=kind)
        assert read(at, repo, "x.txt", repo_type=kind) == b"x"
        api.delete_repo(repo, repo_type=kind)
        assert not api.repo_exists(repo, repo_type=kind)
        api.delete_repo(repo, repo_type=kind, missing_ok=True)
        with raises(RepositoryNotFoundError):
            api.delete_repo(repo, repo_type=kind)


@tasks("branch: create, upload to it, delete")
def branches(at: Place) -> None:
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    api = api_of(at)
    for kind in ("model", "dataset"):
        repo, of = new_repo(at, {"a.txt": b"a"}, kind, repo_type=kind), {"repo_type": kind}
        api.create_branch(repo, branch="dev/x", **of)
        api.create_branch(repo, branch="dev/x", exist_ok=True, **of)
        with raises(HfHubHTTPError, exactly=False, says="409"):
            api.create_branch(repo, branch="dev/x", **of)
        api.upload_file(path_or_fileobj=b"b", path_in_repo="b.txt", repo_id=repo, revision="dev/x", **of)
        assert "b.txt" in api.list_repo_files(repo, revision="dev/x", **of)
        assert "b.txt" not in api.list_repo_files(repo, **of)
        assert {b.name for b in api.list_repo_refs(repo, **of).branches} == {"main", "dev/x"}
        api.delete_branch(repo, branch="dev/x", **of)
        assert {b.name for b in api.list_repo_refs(repo, **of).branches} == {"main"}
        with raises(RevisionNotFoundError):
            api.repo_info(repo, revision="dev/x", **of)


@tasks("tag: create, list, delete")
def tags(at: Place) -> None:
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    api = api_of(at)
    for kind in ("model", "dataset"):
        repo, of = new_repo(at, {"a.txt": b"a"}, kind, repo_type=kind), {"repo_type": kind}
        api.create_tag(repo, tag="v1", tag_message="first", **of)
        api.create_tag(repo, tag="v1", exist_ok=True, **of)
        with raises(HfHubHTTPError, exactly=False, says="409"):
            api.create_tag(repo, tag="v1", **of)
        told = [(t.name, t.ref, t.target_commit) for t in api.list_repo_refs(repo, **of).tags]
        assert told == [("v1", "refs/tags/v1", api.repo_info(repo, **of).sha)]
        api.delete_tag(repo, tag="v1", **of)
        assert not api.list_repo_refs(repo, **of).tags
        with raises(RevisionNotFoundError):
            api.delete_tag(repo, tag="v1", **of)


@tasks("squash a branch's history")
def squash(at: Place) -> None:
    api, repo = api_of(at), new_repo(at, {"a.txt": b"a", "w.safetensors": weights(100_000)})
    for i in range(3):
        api.upload_file(path_or_fileobj=str(i).encode(), path_in_repo="n.txt", repo_id=repo)
    before = read(at, repo, "w.safetensors")
    api.super_squash_history(repo, commit_message="One")
    assert [c.title for c in api.list_repo_commits(repo)] == ["One"]
    assert read(at, repo, "n.txt") == b"2" and read(at, repo, "w.safetensors") == before


@tasks("a stale parent commit is refused; two writers lose nothing")
def stale_parent(at: Place) -> None:
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import HfHubHTTPError

    api, repo = api_of(at), new_repo(at)
    parent = api.repo_info(repo).sha
    api.create_commit(repo, [CommitOperationAdd("a.txt", b"a")], commit_message="a", parent_commit=parent)
    with raises(HfHubHTTPError, exactly=False, says="412"):
        api.create_commit(repo, [CommitOperationAdd("a.txt", b"b")], commit_message="b", parent_commit=parent)
    assert read(at, repo, "a.txt") == b"a"


@tasks("move a repository; the old name leads to the new one")
def move(at: Place) -> None:
    api, repo, to = api_of(at), new_repo(at, {"a.txt": b"a", "w.safetensors": weights(50_000)}), at.name("moved")
    api.move_repo(repo, to)
    assert read(at, to, "a.txt") == b"a"
    assert api.repo_info(repo).id == to
    assert read(at, repo, "a.txt") == b"a" and len(read(at, repo, "w.safetensors")) > 50_000
    data = weights(40_000)
    api.upload_file(path_or_fileobj=data, path_in_repo="v.safetensors", repo_id=repo)
    api.create_tag(repo, tag="v1")
    assert read(at, to, "v.safetensors", revision="v1") == data, "what was sent by the old name"


@tasks("delete a file, files by pattern, a folder")
def delete_files(at: Place) -> None:
    api, repo = api_of(at), new_repo(at, dict.fromkeys(("a.txt", "b/1.txt", "b/2.txt", "c/1.bin", "c/2.txt"), b"x"))
    api.delete_file("a.txt", repo)
    api.delete_folder("b", repo)
    api.delete_files(repo, ["*.bin"])
    assert set(api.list_repo_files(repo)) == {".gitattributes", "c/2.txt"}


@tasks("copy inside a repository", moves=True)
def copy_inside(at: Place) -> None:
    from huggingface_hub import CommitOperationCopy, CommitOperationDelete

    data = weights(400_000)
    api, repo = api_of(at), new_repo(at, {"a.txt": b"a", "w.safetensors": data})
    before = api.repo_info(repo).sha
    copies = [CommitOperationCopy("a.txt", "c/a.txt"), CommitOperationCopy("w.safetensors", "c/w.safetensors")]
    api.create_commit(repo, [*copies, CommitOperationDelete("w.safetensors")], commit_message="Copy")
    assert read(at, repo, "c/a.txt") == b"a" and read(at, repo, "c/w.safetensors") == data
    assert "w.safetensors" not in api.list_repo_files(repo)
    back = CommitOperationCopy("w.safetensors", "back.safetensors", src_revision=before)
    api.create_commit(repo, [back], commit_message="Back")
    assert read(at, repo, "back.safetensors") == data


@tasks("copy_files across repositories", moves=True)
def copy_across(at: Place) -> None:
    copy = needs(api_of(at), "copy_files")
    data = weights(400_000)
    source, target = new_repo(at, {"d/a.txt": b"a", "d/w.safetensors": data}), new_repo(at, word="target")
    stored_as_xet(at, source, "d/w.safetensors")
    copy(f"hf://{source}/d/w.safetensors", f"hf://{target}/w.safetensors")
    copy(f"hf://{source}/d/", f"hf://{target}/folder/")
    files = set(api_of(at).list_repo_files(target))
    assert {"w.safetensors", "folder/a.txt", "folder/w.safetensors"} <= files, files
    assert read(at, target, "w.safetensors") == data and read(at, target, "folder/w.safetensors") == data


def stored_as_xet(at: Place, repo: str, path: str) -> None:
    """Wait until the hub has converted a file that came by LFS; the client copies no other across repositories."""
    import time
    import urllib.parse
    import urllib.request

    asked = urllib.parse.urlencode({"paths": path}).encode()
    headers = {"authorization": f"Bearer {at.tokens[at.user]}"}
    end = time.monotonic() + 90
    while time.monotonic() < end:
        request = urllib.request.Request(f"{at.url}/api/models/{repo}/paths-info/main", asked, headers)
        with urllib.request.urlopen(request) as answer:
            if b'"xetHash"' in answer.read():
                return
        time.sleep(0.2)
    raise AssertionError(
        "a file that came by LFS has no Xet hash after 90 s, and the client copies only files with one"
    )


@tasks("duplicate a repository")
def duplicate(at: Place) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    api = api_of(at)
    copy = needs(api, "duplicate_repo")
    source, target = new_repo(at), at.name("copy")
    api.upload_folder(repo_id=source, folder_path=model_folder(at.folder / "model", 300_000))
    assert copy(source, target).repo_id == target
    assert copy(source, target, exist_ok=True).repo_id == target
    with raises(HfHubHTTPError, exactly=False, says="409"):
        copy(source, target)
    back = [
        digests(Path(api.snapshot_download(r, local_dir=at.folder / r.replace("/", "-")))) for r in (source, target)
    ]
    assert back[0] == back[1] and back[0]


@tasks("duplicate a space")
def duplicate_space(at: Place) -> None:
    api, to = api_of(at), at.name("copy")
    space = new_repo(at, {"index.html": b"<p>"}, "space", repo_type="space", space_sdk="static")
    made = api.duplicate_repo(space, to, repo_type="space") if at.client > "2" else api.duplicate_space(space, to)
    assert made.repo_id == to and made.repo_type == "space" and read(at, to, "index.html", repo_type="space") == b"<p>"


@tasks("list over several pages: a tree of 1,100 files, 60 commits, models")
def pages(at: Place) -> None:
    api, repo = api_of(at), new_repo(at, {f"f/{i:04}.txt": b"%d" % i for i in range(1100)})
    tree = [f.path for f in api.list_repo_tree(repo, recursive=True) if f.path.endswith(".txt")]
    assert tree == [f"f/{i:04}.txt" for i in range(1100)]
    with_commits = list(api.list_repo_tree(repo, "f", expand=True))
    assert len(with_commits) == 1100 and with_commits[1099].last_commit.title == "Add"
    for i in range(60):
        api.upload_file(path_or_fileobj=b"%d" % i, path_in_repo="n.txt", repo_id=repo, commit_message=f"c{i}")
    assert [c.title for c in api.list_repo_commits(repo)][:60] == [f"c{i}" for i in reversed(range(60))]
    author = [m.id for m in api.list_models(author=at.user)]
    assert repo in author and len(author) == len(set(author))
    assert len(list(api.list_models(author=at.user, limit=1))) == 1


@tasks("search, filter, sort and expand lists of models and datasets")
def search(at: Place) -> None:
    api, repo, data = api_of(at), new_repo(at, {"README.md": CARD.encode()}), at.name("data")
    api.create_repo(data, repo_type="dataset")
    word = repo.partition("/")[2]
    assert [m.id for m in api.list_models(search=word)] == [repo]
    assert repo in {m.id for m in api.list_models(filter="license:apache-2.0", author=at.user)}
    assert repo in {m.id for m in api.list_models(pipeline_tag="text-classification", author=at.user)}
    assert repo not in {m.id for m in api.list_models(filter="license:mit", author=at.user)}
    dates = [m.created_at for m in api.list_models(author=at.user, sort="created_at")]
    assert dates == sorted(dates, reverse=True) and len(dates) > 0
    found = next(iter(api.list_models(search=word, expand=["downloads", "lastModified"])))
    assert found.downloads is not None and found.last_modified and found.tags is None
    assert next(iter(api.list_models(search=word, full=True))).siblings
    assert [d.id for d in api.list_datasets(search=data.partition("/")[2])] == [data]


@tasks("repo info: files, sizes, sha256, card")
def info(at: Place) -> None:
    api, data = api_of(at), weights(123_000)
    repo = new_repo(at, {"README.md": CARD.encode(), "w.safetensors": data})
    found = api.model_info(repo, files_metadata=True)
    large = next(s for s in found.siblings if s.rfilename == "w.safetensors")
    assert large.size == len(data) and len(large.lfs.sha256) == 64 and large.blob_id
    assert found.card_data.license == "apache-2.0" and "license:apache-2.0" in found.tags
    assert found.pipeline_tag == "text-classification" and found.safetensors.total == 123_000
    paths = {p.path: p for p in api.get_paths_info(repo, ["w.safetensors", "none.txt"], expand=True)}
    assert set(paths) == {"w.safetensors"} and paths["w.safetensors"].last_commit.title == "Add"


@tasks("safetensors metadata: one file and shards")
def safetensors(at: Place) -> None:
    import json

    from huggingface_hub.errors import NotASafetensorsRepoError

    api = api_of(at)
    index = {"metadata": {"total_size": 3000}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    one = new_repo(at, {"model.safetensors": weights(4321)})
    shards = {"model-1.safetensors": weights(1000, name="a"), "model-2.safetensors": weights(2000, name="b")}
    many = new_repo(at, {"model.safetensors.index.json": json.dumps(index).encode(), **shards})
    assert api.get_safetensors_metadata(one).parameter_count == {"U8": 4321}
    found = api.get_safetensors_metadata(many)
    assert found.sharded and found.parameter_count == {"U8": 3000} and found.weight_map == index["weight_map"]
    with raises(NotASafetensorsRepoError):
        api.get_safetensors_metadata(new_repo(at, {"a.txt": b"a"}))


@tasks("get_sharded_safetensors_metadata")
def sharded(at: Place) -> None:
    import json

    read_all = needs(api_of(at), "get_sharded_safetensors_metadata")
    index = {"metadata": {"total_size": 3000}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    shards = {"model-1.safetensors": weights(1000, name="a"), "model-2.safetensors": weights(2000, name="b")}
    found = read_all(new_repo(at, {"model.safetensors.index.json": json.dumps(index).encode(), **shards}))
    assert found.weight_map == index["weight_map"] and found.parameter_count == {"U8": 3000}


@tasks("list LFS files and delete one for good")
def lfs_files(at: Place) -> None:
    api = api_of(at)
    repo = new_repo(at, {"a.safetensors": weights(70_000), "b.safetensors": weights(80_000), "c.txt": b"c"})
    found = {f.filename: f for f in api.list_lfs_files(repo)}
    assert set(found) == {"a.safetensors", "b.safetensors"} and found["b.safetensors"].size > 80_000
    api.permanently_delete_lfs_files(repo, [found["a.safetensors"]])
    assert {f.filename for f in api.list_lfs_files(repo)} == {"b.safetensors"}
    for commit in api.list_repo_commits(repo):
        assert "a.safetensors" not in api.list_repo_files(repo, revision=commit.commit_id)
    assert len(read(at, repo, "b.safetensors")) > 80_000
    api.permanently_delete_lfs_files(repo, [found["b.safetensors"]], rewrite_history=False)
    assert "b.safetensors" in api.list_repo_files(repo) and not api.file_exists(repo, "b.safetensors")


@tasks("private repository: missing, wrong and foreign token; a user's token")
def private(at: Place) -> None:
    """A private repository is every user's to read, and nobody's without a user's token."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    repo, cache = new_repo(at, {"a.txt": b"a"}, private=True), at.folder / "cache"
    assert api_of(at).repo_info(repo).private and read(at, repo, "a.txt") == b"a"
    nobody = HfApi(token=False)
    with raises(RepositoryNotFoundError):
        nobody.repo_info(repo)
    with raises(RepositoryNotFoundError):
        nobody.hf_hub_download(repo, "a.txt", cache_dir=cache)
    with raises(RepositoryNotFoundError):
        nobody.list_repo_files(repo)
    with raises((RepositoryNotFoundError, LocalEntryNotFoundError), exactly=False):
        nobody.snapshot_download(repo, cache_dir=cache)
    assert repo not in {m.id for m in nobody.list_models(author=at.user)}
    assert not nobody.repo_exists(repo)
    for token in ("hf_wrong", f"ect_{'0' * 43}", at.tokens["key"]):
        foreign = HfApi(token=token)
        with raises(HfHubHTTPError, says="401"):
            foreign.repo_info(repo)
        with raises(Exception, exactly=False, says="Invalid user token"):
            foreign.whoami()
        with raises((HfHubHTTPError, LocalEntryNotFoundError), exactly=False):
            foreign.hf_hub_download(repo, "a.txt", cache_dir=cache)
    with raises(RepositoryNotFoundError):
        api_of(at).repo_info(at.name("absent"))
    assert api_of(at, "rita").repo_info(repo).private
    with raises(HfHubHTTPError, exactly=False, says="403"):
        api_of(at, "wanda").upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)


@tasks("a reader's token may not write; another user's namespace is closed")
def no_right_to_write(at: Place) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    repo = new_repo(at, {"a.txt": b"a"})
    for who in ("rita", "wanda"):
        with raises(HfHubHTTPError, exactly=False, says="403"):
            api_of(at, who).upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)
        with raises(HfHubHTTPError, exactly=False, says="403"):
            api_of(at, who).delete_repo(repo)
    assert read(at, repo, "a.txt") == b"a"
    api_of(at).auth_check(repo)


@tasks("make a repository private and public again")
def visibility(at: Place) -> None:
    from huggingface_hub import HfApi

    api, repo = api_of(at), new_repo(at, {"a.txt": b"a"})
    nobody = HfApi(token=False)
    api.update_repo_settings(repo, private=True)
    assert api.repo_info(repo).private and not nobody.repo_exists(repo)
    api.update_repo_settings(repo, private=False)
    assert nobody.repo_exists(repo)


@tasks("gated: refused, granted, taken back")
def gated(at: Place) -> None:
    from huggingface_hub.errors import GatedRepoError

    api, repo = api_of(at), new_repo(at, {"a.txt": b"a", "w.safetensors": weights(90_000)})
    api.update_repo_settings(repo, gated="manual")
    reader = api_of(at, "rita")
    assert reader.repo_info(repo).gated == "manual"
    with raises(GatedRepoError, says="/access"):
        reader.hf_hub_download(repo, "a.txt", cache_dir=at.folder / "cache")
    with raises(GatedRepoError):
        reader.auth_check(repo)
    api.grant_access(repo, "rita")
    for path in ("a.txt", "w.safetensors"):
        assert Path(reader.hf_hub_download(repo, path, cache_dir=at.folder / "granted")).exists()
    reader.auth_check(repo)
    api.reject_access_request(repo, "rita", rejection_reason="no")
    with raises(GatedRepoError):
        reader.hf_hub_download(repo, "a.txt", cache_dir=at.folder / "cache")
    api.update_repo_settings(repo, gated=False)
    assert Path(reader.hf_hub_download(repo, "a.txt", cache_dir=at.folder / "open")).read_bytes() == b"a"


@tasks("access requests: pending, accepted, rejected, cancelled")
def access_requests(at: Place) -> None:
    from huggingface_hub.errors import HfHubHTTPError

    api, repo = api_of(at), new_repo(at, {"a.txt": b"a"})
    with raises(HfHubHTTPError, exactly=False, says="not gated"):
        list(api.list_pending_access_requests(repo))
    api.update_repo_settings(repo, gated="manual")

    def users() -> list[list[str]]:
        lists = (api.list_pending_access_requests, api.list_accepted_access_requests, api.list_rejected_access_requests)
        return [[request.username for request in one(repo)] for one in lists]

    assert users() == [[], [], []]
    api.grant_access(repo, "rita")
    assert users() == [[], ["rita"], []]
    api.cancel_access_request(repo, "rita")
    assert users() == [["rita"], [], []]
    api.accept_access_request(repo, "rita")
    assert users() == [[], ["rita"], []]
    api.reject_access_request(repo, "rita", rejection_reason="no")
    assert users() == [[], [], ["rita"]]
    with raises(HfHubHTTPError, exactly=False, says="404"):
        api.grant_access(repo, "nobody-of-that-name")
    with raises(HfHubHTTPError, exactly=False, says="403"):
        list(api_of(at, "rita").list_pending_access_requests(repo))


@tasks("errors in a card's metadata are shown, and nothing is uploaded")
def card_errors(at: Place) -> None:
    api, repo = api_of(at), new_repo(at)
    with raises(ValueError, exactly=False, says="YAML"):
        broken = b"---\nlicense: [a, b\n---\n# Broken\n"
        api.upload_file(path_or_fileobj=broken, path_in_repo="README.md", repo_id=repo)
    assert "README.md" not in api.list_repo_files(repo)


@tasks("model cards: push, load, update metadata")
def cards(at: Place) -> None:
    import inspect

    from huggingface_hub import ModelCard, metadata_update

    if "https://huggingface.co/api/validate-yaml" in inspect.getsource(ModelCard.validate):
        raise NotApplicable("this version asks huggingface.co to check a card, whatever HF_ENDPOINT says")
    repo, token = new_repo(at), at.tokens["will"]
    ModelCard(CARD).push_to_hub(repo, token=token)
    metadata_update(repo, {"language": "en"}, token=token)
    data = ModelCard.load(repo, token=token).data
    assert data.license == "apache-2.0" and data.language == "en"


@tasks("users, organisations, own repositories")
def people(at: Place) -> None:
    api, repo = api_of(at), new_repo(at, {"a.txt": b"a"})
    found = api.get_user_overview(at.user)
    assert found.username == at.user and found.num_models > 0
    assert list(api.list_user_followers(at.user)) == [] and api_of(at, "rita").whoami()["orgs"] == []
    api_of(at, "admin").create_repo(f"house-{at.client}/model")
    assert list(api.list_organization_members(f"house-{at.client}")) == []
    if hasattr(api, "list_user_repos"):
        assert repo in {r.id for r in api.list_user_repos()}
