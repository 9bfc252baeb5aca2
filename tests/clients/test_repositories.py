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
    done = subprocess.run(argv, env=home(server, tmp_path, **more), capture_output=True, text=True, timeout=600)
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
