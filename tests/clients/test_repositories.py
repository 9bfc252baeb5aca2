"""What unmodified clients, today's and an old one, do with whole repositories: each method against `ecotone up`."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import environment
from tests.running import ADMIN, Running, clean_environment, running

pytestmark = pytest.mark.slow
BOTH = ("hub-2.4", "hub-0.36")
NEW = ("hub-2.4",)

PROLOGUE = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
from huggingface_hub import HfApi, HfFileSystem, CommitOperationAdd, CommitOperationCopy, CommitOperationDelete
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import *
api, new = HfApi(), sys.argv[1] == "hub-2.4"
ns = "c" + sys.argv[1].replace(".", "")
def weights(count, fill=b"x"):
    header = json.dumps({"w": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    return len(header).to_bytes(8, "little") + header + fill * count
def refused(error, do, *args, **kw):
    try:
        do(*args, **kw)
    except error as e:
        return e
    raise AssertionError(f"{do} was not refused")
def read(repo, path, **kw):
    return open(hf_hub_download(repo, path, force_download=True, **kw), "rb").read()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("repositories")) as found:
        yield found


def home(server: Running, tmp_path: Path, **more: str) -> dict[str, str]:
    told = {"HF_ENDPOINT": server.url, "HF_TOKEN": ADMIN, "HF_HOME": str(tmp_path / "home"), "NO_COLOR": "1"}
    return clean_environment(**told, HF_HUB_DISABLE_TELEMETRY="1", HF_HUB_DISABLE_PROGRESS_BARS="1", **more)


def do(server: Running, tmp_path: Path, client: str, code: str, **more: str) -> Any:
    """Run code in a client's own environment; what it leaves in `found`."""
    script = tmp_path / "task.py"
    script.write_text(PROLOGUE + code + "\nprint('FOUND', json.dumps(found))\n")
    argv = [environment(client) / "python", script, client]
    done = subprocess.run(argv, env=home(server, tmp_path, **more), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "FOUND" in done.stdout, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.rpartition("FOUND ")[2])


@pytest.mark.parametrize("client", BOTH)
def test_models_are_found_by_each_parameter(server: Running, tmp_path: Path, client: str) -> None:
    code = """
cards = {
    "one": "license: mit\\nlanguage: en\\npipeline_tag: text-generation\\ndatasets: [squad]",
    "two": "license: apache-2.0\\nlibrary_name: transformers",
    "three": "license: mit\\ntags: [medical]",
}
for n, (name, card) in enumerate(cards.items()):
    api.create_repo(f"{ns}/find-{name}")
    api.create_commit(f"{ns}/find-{name}", operations=[
        CommitOperationAdd("README.md", f"---\\n{card}\\n---\\n# A\\n".encode()),
        CommitOperationAdd("model.safetensors", weights(10 ** (n + 1)))], commit_message="Add")
api.update_repo_settings(f"{ns}/find-two", gated="auto")
def ids(**kw):
    return sorted(m.id.partition("find-")[2] for m in api.list_models(author=ns, **kw))
found = {
    "all": ids(), "search": ids(search="find-t"), "filter": ids(filter="license:mit"),
    "filters": ids(filter=["license:mit", "medical"]), "gated": ids(gated=True), "open": ids(gated=False),
    "task": ids(pipeline_tag="text-generation"), "apps": ids(apps="vllm"), "inference": ids(inference="warm"),
    "provider": ids(inference_provider="all"), "limit": len(ids(limit=2)), "data": ids(trained_dataset="squad"),
    "sorted": [[m.id for m in api.list_models(author=ns, sort=s)] for s in ("created_at", "downloads", "likes")],
}
if new:
    found["sizes"] = ids(num_parameters="min:50,max:500")
else:
    found["sizes"] = ["two"]
    found["both"] = ids(search="find", model_name="three")
    assert found["both"] == ["three"]
    up = [m.id for m in api.list_models(author=ns, sort="created_at", direction=1)]
    assert up == [m.id for m in api.list_models(author=ns, sort="created_at", direction=-1)][::-1]
full = next(iter(api.list_models(author=ns, search="one", full=True, cardData=True, fetch_config=True)))
assert {s.rfilename for s in full.siblings} >= {"README.md"} and full.card_data.license == "mit"
some = next(iter(api.list_models(author=ns, search="one", expand=["safetensors", "usedStorage" if new else "gated"])))
assert some.safetensors.total == 10 and some.author is None
assert "license" in (api.get_model_tags() if hasattr(api, "get_model_tags") else {"license": 1})
for kind in ("dataset", "space"):
    api.create_repo(f"{ns}/list-{kind}", repo_type=kind, space_sdk="static" if kind == "space" else None)
api.upload_file(path_or_fileobj=b"---\\ntask_categories: [qa]\\nlanguage: [en]\\n---\\n", path_in_repo="README.md",
    repo_id=f"{ns}/list-dataset", repo_type="dataset")
found["datasets"] = [d.id for d in api.list_datasets(author=ns, task_categories="qa", language="en", full=True)]
found["spaces"] = [s.id for s in api.list_spaces(author=ns, full=True)]
"""
    found = do(server, tmp_path, client, code)
    namespace = "c" + client.replace(".", "")
    assert found["all"] == found["apps"] == ["one", "three", "two"]
    assert (found["search"], found["filter"]) == (["three", "two"], ["one", "three"])
    assert (found["filters"], found["gated"], found["open"]) == (["three"], ["two"], ["one", "three"])
    assert (found["task"], found["data"], found["sizes"], found["limit"]) == (["one"], ["one"], ["two"], 2)
    assert found["inference"] == found["provider"] == []
    assert found["sorted"][0] == [f"{namespace}/find-{name}" for name in ("three", "two", "one")]
    assert found["datasets"] == [f"{namespace}/list-dataset"] and found["spaces"] == [f"{namespace}/list-space"]


@pytest.mark.parametrize("client", BOTH)
def test_history_is_squashed_and_large_files_are_deleted_for_good(server: Running, tmp_path: Path, client: str) -> None:
    code = """
repo = f"{ns}/history"
api.create_repo(repo)
for n in range(3):
    api.upload_file(path_or_fileobj=weights(2000 + n), path_in_repo=f"w{n}.safetensors", repo_id=repo)
assert len(api.list_repo_commits(repo)) == 4 and len(api.list_repo_commits(repo, formatted=True)) == 4
files = {f.filename: f for f in api.list_lfs_files(repo)}
assert sorted(files) == ["w0.safetensors", "w1.safetensors", "w2.safetensors"] and files["w1.safetensors"].size > 2000
api.permanently_delete_lfs_files(repo, [files["w0.safetensors"]])
assert sorted(f.filename for f in api.list_lfs_files(repo)) == ["w1.safetensors", "w2.safetensors"]
assert not api.file_exists(repo, "w0.safetensors") and read(repo, "w1.safetensors") == weights(2001)
for commit in api.list_repo_commits(repo):
    assert "w0.safetensors" not in api.list_repo_files(repo, revision=commit.commit_id)
api.permanently_delete_lfs_files(repo, [files["w1.safetensors"]], rewrite_history=False)
assert "w1.safetensors" in api.list_repo_files(repo) and not api.file_exists(repo, "w1.safetensors")
api.super_squash_history(repo, commit_message="Squashed")
found = [(c.title, len(api.list_repo_files(repo))) for c in api.list_repo_commits(repo)]
assert read(repo, "w2.safetensors") == weights(2002)
api.upload_file(path_or_fileobj=b"on", path_in_repo="on.txt", repo_id=repo)
"""
    assert do(server, tmp_path, client, code) == [["Squashed", 3]]


@pytest.mark.parametrize("client", BOTH)
def test_a_moved_repository_is_read_and_written_by_its_old_name(server: Running, tmp_path: Path, client: str) -> None:
    code = """
old, moved = f"{ns}/Old-Name", f"{ns}/new-name"
api.create_repo(old)
api.upload_file(path_or_fileobj=weights(3000), path_in_repo="w.safetensors", repo_id=old)
api.move_repo(old, moved)
assert api.model_info(old).id == moved and api.model_info(moved.upper()).id == moved
assert read(old, "w.safetensors") == weights(3000)
api.upload_file(path_or_fileobj=b"by the old name", path_in_repo="a.txt", repo_id=old)
assert read(moved, "a.txt") == b"by the old name" and read(old, "a.txt") == b"by the old name"
api.upload_file(path_or_fileobj=weights(4000), path_in_repo="v.safetensors", repo_id=old)
assert [f.path for f in api.get_paths_info(old, ["v.safetensors"])] == ["v.safetensors"]
api.create_branch(old, branch="b"); api.create_tag(old, tag="t", tag_message="m")
found = sorted(api.list_repo_files(old))
assert refused(HfHubHTTPError, api.move_repo, moved, "elsewhere/x")
"""
    assert do(server, tmp_path, client, code) == [".gitattributes", "a.txt", "v.safetensors", "w.safetensors"]


@pytest.mark.parametrize("client", BOTH)
def test_refs_and_settings_and_what_exists_already(server: Running, tmp_path: Path, client: str) -> None:
    code = """
for kind in ("model", "dataset"):
    repo = f"{ns}/refs"
    api.create_repo(repo, repo_type=kind)
    api.create_repo(repo, repo_type=kind, exist_ok=True)
    api.create_branch(repo, branch="feature/x", repo_type=kind)
    api.create_branch(repo, branch="feature/x", repo_type=kind, exist_ok=True)
    refused(HfHubHTTPError, api.create_branch, repo, branch="feature/x", repo_type=kind)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo, revision="feature/x", repo_type=kind)
    api.create_tag(repo, tag="v1.0", tag_message="first", revision="feature/x", repo_type=kind)
    api.create_tag(repo, tag="v1.0", revision="feature/x", repo_type=kind, exist_ok=True)
    refused(HfHubHTTPError, api.create_tag, repo, tag="v1.0", repo_type=kind)
    assert api.file_exists(repo, "x.txt", revision="v1.0", repo_type=kind)
    refs = api.list_repo_refs(repo, repo_type=kind, include_pull_requests=True)
    assert [b.name for b in refs.branches] == ["feature/x", "main"] and refs.tags[0].ref == "refs/tags/v1.0"
    assert refs.converts == [] and refs.pull_requests == []
    api.delete_branch(repo, branch="feature/x", repo_type=kind); api.delete_tag(repo, tag="v1.0", repo_type=kind)
    refused(RevisionNotFoundError, api.delete_tag, repo, tag="v1.0", repo_type=kind)
    refused(RevisionNotFoundError, api.repo_info, repo, revision="feature/x", repo_type=kind)
    api.update_repo_settings(repo, repo_type=kind, gated="manual")
    assert api.repo_info(repo, repo_type=kind).gated == "manual"
    api.update_repo_settings(repo, repo_type=kind, gated=False, private=True)
    if not new:
        api.update_repo_settings(repo, repo_type=kind, xet_enabled=False)
    info = api.repo_info(repo, repo_type=kind)
    assert info.gated is False and info.private is True
    api.auth_check(repo, repo_type=kind)
    for n in range(3):
        api.upload_file(path_or_fileobj=b"x", path_in_repo=f"d/{n}.txt", repo_id=repo, repo_type=kind)
    api.delete_file("d/0.txt", repo, repo_type=kind)
    api.delete_folder("d", repo, repo_type=kind)
    assert api.list_repo_files(repo, repo_type=kind) == [".gitattributes"]
    refused(HfHubHTTPError, api.create_commit, repo, operations=[CommitOperationAdd("late", b"x")], commit_message="x",
        parent_commit="0" * 40, repo_type=kind)
    assert not list(api.list_repo_likers(repo, repo_type=kind))
    api.delete_repo(repo, repo_type=kind)
    refused(RepositoryNotFoundError, api.repo_info, repo, repo_type=kind)
    api.delete_repo(repo, repo_type=kind, missing_ok=True)
    refused(RepositoryNotFoundError, api.auth_check, repo, repo_type=kind)
found = "done"
"""
    assert do(server, tmp_path, client, code) == "done"


@pytest.mark.parametrize("client", BOTH)
def test_files_are_copied_on_the_server(server: Running, tmp_path: Path, client: str) -> None:
    code = """
repo, other = f"{ns}/copies", f"{ns}-other/copies"
for name in (repo, other):
    api.create_repo(name)
api.create_commit(repo, operations=[CommitOperationAdd("w.safetensors", weights(5000)),
    CommitOperationAdd("a.txt", b"small")], commit_message="Add")
api.create_commit(repo, operations=[CommitOperationCopy("w.safetensors", "d/w.safetensors"),
    CommitOperationCopy("a.txt", "d/a.txt"), CommitOperationDelete("w.safetensors")], commit_message="Rename")
assert read(repo, "d/w.safetensors") == weights(5000) and read(repo, "d/a.txt") == b"small"
api.create_commit(repo, operations=[CommitOperationCopy("w.safetensors", "back.safetensors",
    src_revision=api.list_repo_commits(repo)[1].commit_id)], commit_message="Back")
assert read(repo, "back.safetensors") == weights(5000)
if new:
    api.create_commit(other, operations=[
        CommitOperationCopy("d/w.safetensors", "w.safetensors", src_repo_id=repo, src_repo_type="model"),
        CommitOperationCopy("d/a.txt", "a.txt", src_repo_id=repo, src_repo_type="model")], commit_message="Copy")
    assert read(other, "w.safetensors") == weights(5000) and read(other, "a.txt") == b"small"
    url = api.duplicate_repo(repo, f"{ns}/duplicate")
    assert url.repo_id == f"{ns}/duplicate" and url.files_copy_pending is False
    assert api.duplicate_repo(repo, f"{ns}/duplicate", exist_ok=True).repo_id == url.repo_id
    refused(HfHubHTTPError, api.duplicate_repo, repo, f"{ns}/duplicate")
    assert api.list_repo_files(url.repo_id) == api.list_repo_files(repo)
    assert read(url.repo_id, "d/w.safetensors") == weights(5000)
    stored = {r.id: r.storage for r in api.list_user_repos(ns)}
    assert stored[repo] > 5000 and stored[url.repo_id] > 5000, stored
api.create_repo(f"{ns}/space", repo_type="space", space_sdk="static")
again = {"repo_type": "space"} if new else {}
made = (api.duplicate_repo if new else api.duplicate_space)(f"{ns}/space", f"{ns}/space-two", **again)
assert made.repo_id == f"{ns}/space-two" and made.repo_type == "space"
found = "done"
"""
    assert do(server, tmp_path, client, code) == "done"


@pytest.mark.parametrize("client", BOTH)
def test_the_file_system_lists_reads_writes_and_copies(server: Running, tmp_path: Path, client: str) -> None:
    code = """
repo = f"{ns}/files"
api.create_repo(repo, repo_type="dataset")
fs = HfFileSystem()
at = f"datasets/{repo}"
with fs.open(f"{at}/data/one.txt", "w") as file:
    file.write("hello")
with fs.open(f"{at}/data/big.parquet", "wb") as file:
    file.write(bytes(range(256)) * 4096)
fs.touch(f"{at}/empty")
assert sorted(os.path.basename(p) for p in fs.glob(f"{at}/**/*.txt")) == ["one.txt"]
assert [os.path.basename(e["name"]) for e in fs.ls(f"{at}/data")] == ["big.parquet", "one.txt"]
assert fs.read_text(f"{at}/data/one.txt") == "hello" and fs.size(f"{at}/data/big.parquet") == 1 << 20
with fs.open(f"{at}/data/big.parquet", "rb", block_size=1 << 16) as file:
    file.seek(1000)
    assert file.read(5) == bytes([232, 233, 234, 235, 236])
assert fs.cat_file(f"{at}/data/big.parquet", start=-2) == bytes([254, 255])
fs.cp_file(f"{at}/data/big.parquet", f"{at}/copy/big.parquet")
assert fs.cat(f"{at}/copy/big.parquet") == bytes(range(256)) * 4096
assert fs.exists(f"{at}/copy") and fs.isdir(f"{at}/copy") and not fs.exists(f"{at}/nothing")
assert fs.modified(f"{at}/data/one.txt") and fs.info(f"{at}@main/data/one.txt")["size"] == 5
fs.rm(f"{at}/data", recursive=True)
found = sorted(fs.find(at))
"""
    assert [path.rpartition("/")[2] for path in do(server, tmp_path, client, code)] == [
        ".gitattributes",
        "big.parquet",
        "empty",
    ]


@pytest.mark.parametrize("client", BOTH)
def test_headers_of_weights_are_read_without_the_weights(server: Running, tmp_path: Path, client: str) -> None:
    code = """
one, many = f"{ns}/single", f"{ns}/sharded"
for name in (one, many):
    api.create_repo(name)
api.upload_file(path_or_fileobj=weights(7000), path_in_repo="model.safetensors", repo_id=one)
index = {"metadata": {"total_size": 300}, "weight_map": {"w": "model-1.safetensors", "v": "model-2.safetensors"}}
api.create_commit(many, operations=[
    CommitOperationAdd("model.safetensors.index.json", json.dumps(index).encode()),
    CommitOperationAdd("model-1.safetensors", weights(100)), CommitOperationAdd("model-2.safetensors", weights(200)),
], commit_message="Add")
single, sharded = api.get_safetensors_metadata(one), api.get_safetensors_metadata(many)
found = [single.parameter_count, sharded.parameter_count, sharded.sharded, sorted(sharded.files_metadata)]
if new:
    told = api.get_sharded_safetensors_metadata(many)
    assert sorted(told.files_metadata) == found[3] and told.parameter_count == {"U8": 300}
    assert told.metadata == {"total_size": 300} == sharded.metadata
"""
    found = do(server, tmp_path, client, code)
    assert found == [{"U8": 7000}, {"U8": 300}, True, ["model-1.safetensors", "model-2.safetensors"]]


def test_the_hf_command_keeps_repositories(server: Running, tmp_path: Path) -> None:
    def hf(*argv: str) -> str:
        done = subprocess.run(
            [environment("hub-2.4") / "hf", *argv],
            env=home(server, tmp_path),
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert done.returncode == 0, (argv, done.stdout + done.stderr)
        return done.stdout

    source = tmp_path / "source"
    source.mkdir()
    (source / "w.bin").write_bytes(bytes(range(256)) * 800)
    (source / "a.txt").write_text("a")
    hf("repos", "create", "cli/one")
    hf("repos", "create", "cli/two")
    hf("upload", "cli/one", str(source))
    hf("repos", "branch", "create", "cli/one", "side")
    hf("repos", "tag", "create", "cli/one", "v1", "-m", "first")
    assert "v1" in hf("repos", "tag", "list", "cli/one")
    hf("cp", "hf://cli/one/w.bin", "hf://cli/two/copy/w.bin")
    hf("repos", "duplicate", "cli/one", "cli/three")
    hf("repos", "move", "cli/three", "cli/four")
    hf("repos", "settings", "cli/four", "--private")
    listed = hf("repos", "ls", "--namespace", "cli")
    assert "cli/four" in listed and "cli/two" in listed
    hf("repos", "delete-files", "cli/one", "a.txt")
    for repo, path in (("cli/two", "copy/w.bin"), ("cli/four", "w.bin"), ("cli/three", "a.txt")):
        hf("download", repo, path, "--local-dir", str(tmp_path / "down" / repo))
    assert (tmp_path / "down/cli/two/copy/w.bin").read_bytes() == (source / "w.bin").read_bytes()
    assert (tmp_path / "down/cli/four/w.bin").read_bytes() == (source / "w.bin").read_bytes()
    assert "a.txt" in hf("models", "ls", "cli/four")
    hf("repos", "tag", "delete", "cli/one", "v1", "-y")
    hf("repos", "branch", "delete", "cli/one", "side")
    hf("repos", "delete", "cli/one", "-y")


@pytest.mark.parametrize("client", BOTH)
def test_a_limited_client_waits_and_goes_on(tmp_path: Path, client: str) -> None:
    with running(tmp_path / "limited", ECOTONE_RATE_LIMIT="12 per 4 seconds") as server:
        code = """
import time
repo = f"{ns}/limited"
api.create_repo(repo)
for n in range(4):
    api.create_tag(repo, tag=f"t{n}")
begun, seen = time.monotonic(), 0
for n in range(20):
    seen += len(list(api.list_models(author=ns, limit=1))) if new or n < 5 else 1
found = [seen, time.monotonic() - begun]
"""
        seen, seconds = do(server, tmp_path, client, code)
        assert seen == 20
        if client in NEW:
            assert seconds > 1, "twenty calls do not fit into one window, so that the client must have waited"
