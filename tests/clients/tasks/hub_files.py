"""Tasks of `huggingface_hub`: moving files up and down, whole, cut, pinned, from the cache."""

import hashlib
import io
import os
import signal
import time
from pathlib import Path
from typing import Any

from content import digests, model_folder, sha256, weights, write
from serving import NotApplicable, Place, Tasks, raises

tasks = Tasks()


def api_of(at: Place, who: str = "will") -> Any:
    from huggingface_hub import HfApi

    return HfApi(token=at.tokens[who])


def needs(api: Any, method: str) -> Any:
    """A method of the client, unless this version has none of that name."""
    if not hasattr(api, method):
        raise NotApplicable(f"this version has no `{method}`")
    return getattr(api, method)


def new_repo(at: Place, files: "dict[str, bytes] | None" = None, word: str = "model", **options: Any) -> str:
    """A fresh repository with some files, sent in one commit."""
    from huggingface_hub import CommitOperationAdd

    api, name = api_of(at), at.name(word)
    api.create_repo(name, **options)
    if files:
        operations = [CommitOperationAdd(path, data) for path, data in files.items()]
        api.create_commit(name, operations, commit_message="Add", repo_type=options.get("repo_type"))
    return name


def read(at: Place, repo: str, path: str, **options: Any) -> bytes:
    """A file's bytes, downloaded past the cache."""
    folder = at.folder / f"read-{time.monotonic_ns()}"
    return Path(api_of(at).hf_hub_download(repo, path, local_dir=folder, **options)).read_bytes()


@tasks("upload_file and hf_hub_download: small, large and empty files", moves=True, quick=True)
def upload_and_download(at: Place) -> None:
    api, repo = api_of(at), new_repo(at)
    for path, data in (("config.json", b"{}"), ("model.safetensors", weights(3_000_000)), ("empty.txt", b"")):
        write(at.folder / path, data)
        api.upload_file(path_or_fileobj=at.folder / path, path_in_repo=path, repo_id=repo)
        assert read(at, repo, path) == data, path


@tasks("upload from bytes and from a file object", moves=True)
def file_objects(at: Place) -> None:
    api, repo, data = api_of(at), new_repo(at), weights(1_500_000)
    api.upload_file(path_or_fileobj=data, path_in_repo="a.safetensors", repo_id=repo)
    api.upload_file(path_or_fileobj=io.BytesIO(data + b"more"), path_in_repo="b.bin", repo_id=repo)
    assert read(at, repo, "a.safetensors") == data
    assert read(at, repo, "b.bin") == data + b"more"


@tasks("upload_folder and snapshot_download", moves=True, quick=True)
def folder_and_snapshot(at: Place) -> None:
    from huggingface_hub import snapshot_download

    api, repo = api_of(at), new_repo(at)
    source = model_folder(at.folder / "model")
    api.upload_folder(repo_id=repo, folder_path=source)
    assert digests(Path(snapshot_download(repo, cache_dir=at.folder / "cache"))) == digests(source)
    assert digests(Path(snapshot_download(repo, local_dir=at.folder / "local"))) == digests(source)
    some = snapshot_download(repo, cache_dir=at.folder / "some", allow_patterns=["*.json"])
    assert set(digests(Path(some))) == {"config.json"}


@tasks("equal content again makes no commit", moves=True)
def equal_content(at: Place) -> None:
    api, repo = api_of(at), new_repo(at)
    source = model_folder(at.folder / "model")
    api.upload_folder(repo_id=repo, folder_path=source)
    before = api.repo_info(repo).sha
    api.upload_folder(repo_id=repo, folder_path=source)
    assert api.repo_info(repo).sha == before


CUT_DOWNLOAD = """
import os, signal, sys, threading, time
from pathlib import Path
from huggingface_hub import hf_hub_download
def watch():
    while True:
        try:
            found = [f.stat().st_blocks * 512 for f in Path(sys.argv[2]).rglob("*.incomplete")]
        except OSError:  # the client removed a folder while we looked
            continue
        if sum(found) > int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.001)
threading.Thread(target=watch, daemon=True).start()
hf_hub_download(sys.argv[1], "model.safetensors", cache_dir=sys.argv[2])
"""


@tasks("a download killed in the middle and continued", moves=True)
def cut_download(at: Place) -> None:
    api, repo, size = api_of(at), new_repo(at), 60_000_000
    write(at.folder / "model.safetensors", weights(size))
    api.upload_file(path_or_fileobj=at.folder / "model.safetensors", path_in_repo="model.safetensors", repo_id=repo)
    for turn in range(5):  # on a busy machine it may be whole before anybody sees a part of it
        cache = at.folder / f"cache{turn}"
        cut = at.python(CUT_DOWNLOAD, repo, str(cache), str(size // 10), check=False)
        if cut.returncode:
            break
    assert cut.returncode == -signal.SIGKILL, f"the download was not cut: {cut.returncode} {cut.stderr[-500:]}"
    assert not list(cache.rglob("model.safetensors")), "nothing may look whole after a cut"
    found = api.hf_hub_download(repo, "model.safetensors", cache_dir=cache)
    assert sha256(Path(found)) == sha256(at.folder / "model.safetensors")


UPLOAD_FOLDER = """
import sys
from huggingface_hub import HfApi
HfApi().upload_folder(repo_id=sys.argv[1], folder_path=sys.argv[2])
"""


@tasks("upload_folder of 260 files, killed and run again", moves=True)
def killed_upload(at: Place) -> None:
    import subprocess
    import sys

    api, repo, source = api_of(at), new_repo(at), at.folder / "many"
    for i in range(256):
        write(source / f"part-{i % 7}" / f"{i}.txt", f"{at.client} {i}".encode())
    for i in range(4):
        write(source / f"{i}.safetensors", weights(4_000_000))
    argv = [sys.executable, "-c", UPLOAD_FOLDER, repo, str(source)]
    process = subprocess.Popen(argv, env=at.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(1.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    seen = set(api.list_repo_files(repo)) - {".gitattributes"}
    assert seen <= set(digests(source)), "only whole files may be seen after a kill"
    at.python(UPLOAD_FOLDER, repo, str(source))
    assert digests(Path(api.snapshot_download(repo, local_dir=at.folder / "back"))) == digests(source)


@tasks("upload_large_folder")
def large_folder(at: Place) -> None:
    api, repo = api_of(at), new_repo(at)
    upload = needs(api, "upload_large_folder")
    source = model_folder(at.folder / "model")
    upload(repo_id=repo, folder_path=source, repo_type="model", print_report=False)
    assert digests(Path(api.snapshot_download(repo, local_dir=at.folder / "back"))) == digests(source)


@tasks("file names with spaces, %, #, ? and letters of other scripts", moves=True)
def odd_names(at: Place) -> None:
    files = {
        "a b/c#d.txt": b"1",
        "50%25.json": b"2",
        "what?.txt": b"3",
        "größe/重み.txt": b"4",
        "w+x&y.bin": weights(9000),
    }
    repo = new_repo(at, files)
    assert set(api_of(at).list_repo_files(repo)) - {".gitattributes"} == set(files)
    for path, data in files.items():
        assert read(at, repo, path) == data, path


@tasks("pinned revisions: commit, tag, branch; absent ones refused")
def pinned(at: Place) -> None:
    from huggingface_hub.errors import RevisionNotFoundError

    api, repo = api_of(at), new_repo(at, {"v.txt": b"one"})
    first = api.repo_info(repo).sha
    api.create_tag(repo, tag="v1")
    api.create_branch(repo, branch="old/one")
    api.upload_file(path_or_fileobj=b"two", path_in_repo="v.txt", repo_id=repo)
    for revision in (first, "v1", "old/one"):
        assert read(at, repo, "v.txt", revision=revision) == b"one", revision
        assert api.repo_info(repo, revision=revision).sha == first
    assert read(at, repo, "v.txt") == b"two"
    with raises(RevisionNotFoundError):
        api.hf_hub_download(repo, "v.txt", revision="none")
    with raises(RevisionNotFoundError):
        api.repo_info(repo, revision="0" * 40)
    with raises(RevisionNotFoundError):
        api.list_repo_files(repo, revision="none")


@tasks("a missing file is remembered (.no_exist)")
def missing_file(at: Place) -> None:
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError

    api, repo, cache = api_of(at), new_repo(at, {"a.txt": b"a"}), at.folder / "cache"
    with raises(EntryNotFoundError, exactly=False):
        api.hf_hub_download(repo, "none.json", cache_dir=cache)
    assert try_to_load_from_cache(repo, "none.json", cache_dir=cache) is _CACHED_NO_EXIST
    assert list(cache.rglob(f".no_exist/{api.repo_info(repo).sha}/none.json"))
    assert api.file_exists(repo, "a.txt") and not api.file_exists(repo, "none.json")


OFFLINE = """
import sys
from pathlib import Path
from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
assert Path(hf_hub_download(sys.argv[1], "config.json")).read_bytes()
if "unreachable" not in sys.argv:
    assert (Path(snapshot_download(sys.argv[1])) / "model.safetensors").exists()
    try:
        hf_hub_download(sys.argv[1], "other.json")
    except LocalEntryNotFoundError:
        sys.exit(0)
    sys.exit("a file that is not in the cache was found without contact")
"""


@tasks("the cache serves offline, and when the hub does not answer")
def offline(at: Place) -> None:
    repo = new_repo(at)
    api_of(at).upload_folder(repo_id=repo, folder_path=model_folder(at.folder / "model", 200_000))
    at.python("import sys, huggingface_hub as h; h.snapshot_download(sys.argv[1])", repo, home="home")
    at.python(OFFLINE, repo, home="home", HF_HUB_OFFLINE="1")
    at.python(OFFLINE, repo, "unreachable", home="home", HF_ENDPOINT="http://127.0.0.1:9")


@tasks("a second snapshot_download moves nothing")
def second_snapshot(at: Place) -> None:
    from huggingface_hub import snapshot_download

    repo = new_repo(at, {"config.json": b"{}", "model.safetensors": weights(300_000)})
    found = Path(snapshot_download(repo, cache_dir=at.folder / "cache"))
    blobs = {f: f.stat().st_mtime_ns for f in found.parents[1].joinpath("blobs").iterdir()}
    assert Path(snapshot_download(repo, cache_dir=at.folder / "cache")) == found
    assert {f: f.stat().st_mtime_ns for f in found.parents[1].joinpath("blobs").iterdir()} == blobs
    names = {f.name for f in blobs}
    assert hashlib.sha256((found / "model.safetensors").read_bytes()).hexdigest() in names


@tasks("verify_repo_checksums of a local folder")
def checksums(at: Place) -> None:
    api = api_of(at)
    verify = needs(api, "verify_repo_checksums")
    repo = new_repo(at)
    source = model_folder(at.folder / "model", 300_000)
    api.upload_folder(repo_id=repo, folder_path=source)
    api.snapshot_download(repo, local_dir=at.folder / "local")
    assert not verify(repo, local_dir=at.folder / "local").mismatches
    (at.folder / "local" / "config.json").write_bytes(b"changed")
    assert [m["path"] for m in verify(repo, local_dir=at.folder / "local").mismatches] == ["config.json"]


@tasks("HfFileSystem: ls, glob, find, info, read of ranges")
def filesystem_reads(at: Place) -> None:
    from huggingface_hub import HfFileSystem

    data = os.urandom(700_000)
    repo = new_repo(at, {"data/a.bin": data, "data/b.txt": b"b", "top.txt": b"t"})
    fs = HfFileSystem(token=at.tokens["will"])
    assert set(fs.ls(repo, detail=False)) == {f"{repo}/{x}" for x in (".gitattributes", "data", "top.txt")}
    assert fs.glob(f"{repo}/**/*.bin") == [f"{repo}/data/a.bin"]
    assert set(fs.find(f"{repo}/data")) == {f"{repo}/data/a.bin", f"{repo}/data/b.txt"}
    assert fs.info(f"{repo}/data/a.bin")["size"] == len(data) and fs.isdir(f"{repo}/data")
    assert not fs.exists(f"{repo}/none.txt")
    assert fs.cat_file(f"{repo}/data/a.bin", start=123_456, end=123_999) == data[123_456:123_999]
    with fs.open(f"{repo}/data/a.bin", "rb", block_size=65_536) as file:
        file.seek(500_000)
        assert file.read(10_000) == data[500_000:510_000]
        file.seek(-7, os.SEEK_END)
        assert file.read() == data[-7:]
    assert fs.read_text(f"hf://{repo}@main/data/b.txt") == "b"
    assert fs.modified(f"{repo}/top.txt").tzinfo is not None


@tasks("HfFileSystem: write, copy, move, delete", moves=True)
def filesystem_writes(at: Place) -> None:
    from huggingface_hub import HfFileSystem

    repo, data = new_repo(at), weights(800_000)
    fs = HfFileSystem(token=at.tokens["will"])
    with fs.open(f"{repo}/w.safetensors", "wb") as file:
        file.write(data)
    fs.write_text(f"{repo}/a.txt", "text")
    assert fs.cat_file(f"{repo}/w.safetensors") == data
    fs.cp_file(f"{repo}/w.safetensors", f"{repo}/copy.safetensors")
    fs.mv(f"{repo}/a.txt", f"{repo}/b.txt")
    fs.rm(f"{repo}/w.safetensors")
    fs.invalidate_cache()
    names = {name.rpartition("/")[2] for name in fs.ls(repo, detail=False)}
    assert names == {".gitattributes", "copy.safetensors", "b.txt"}, names
    assert fs.cat_file(f"{repo}/copy.safetensors") == data
    data_set = f"datasets/{new_repo(at, {'d/1.txt': b'1', 'd/e/2.txt': b'2'}, 'data', repo_type='dataset')}"
    fs.touch(f"{data_set}/empty")
    fs.rm(f"{data_set}/d", recursive=True)
    fs.invalidate_cache()
    assert {name.rpartition("/")[2] for name in fs.find(data_set)} == {".gitattributes", "empty"}
