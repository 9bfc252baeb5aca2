"""The whole program with the `hf` command: what a person sees who uploads weights that come from somewhere else."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.publishing.weights import card, fresh, packed, tuned
from tests.running import ADMIN, Running, clean_environment, running

HF = Path(sys.executable).parent / "hf"
API = "/api/ecotone/v1"
A, B = fresh(1), fresh(2)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("lineage")
    with running(folder, ECOTONE_CONVERT_SOON="0") as found:
        assert upload(found, folder / "base", "demo/base", A, card("cc-by-nc-4.0"), xet=True).returncode == 0
        found.http.post("/api/repos/create", json={"name": "source", "organization": "secret", "private": True})
        source = upload(found, folder / "source", "secret/source", B, card("cc-by-nc-4.0"), xet=False)
        assert source.returncode == 0, source.stderr
        yield found


def upload(
    house: Running, folder: Path, name: str, weights: Any, text: bytes, *, xet: bool
) -> "subprocess.CompletedProcess[str]":
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(packed(weights))
    (folder / "README.md").write_bytes(text)
    more = {} if xet else {"HF_HUB_DISABLE_XET": "1"}
    env = clean_environment(
        HF_ENDPOINT=house.url, HF_TOKEN=ADMIN, HF_HOME=str(folder.parent / "home"), NO_COLOR="1", **more
    )
    argv = [HF, "upload", name, str(folder), "."]
    return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=280)


@pytest.mark.parametrize("xet", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_hf_upload_tells_of_a_base_that_the_card_does_not_name(house: Running, tmp_path: Path, xet: bool) -> None:
    kind = "xet" if xet else "lfs"
    done = upload(house, tmp_path / "m", f"demo/tuned-{kind}", tuned(A, 7 + xet), card("cc-by-nc-4.0"), xet=xet)
    assert done.returncode == 0 and "descend from demo/base" in done.stdout + done.stderr
    done = upload(house, tmp_path / "n", f"demo/free-{kind}", tuned(A, 17 + xet), card("mit"), xet=xet)
    assert done.returncode != 0 and "it descends from demo/base" in done.stderr and "clause" in done.stderr
    done = upload(house, tmp_path / "o", f"demo/other-{kind}", fresh(30 + xet), card("mit"), xet=xet)
    assert done.returncode == 0 and "descend" not in done.stdout + done.stderr


def test_a_copy_of_a_private_model_names_it_to_nobody_outside(house: Running, tmp_path: Path) -> None:
    done = upload(house, tmp_path / "m", "demo/copy", B, card("cc-by-nc-4.0"), xet=True)
    assert done.returncode == 0 and "secret/source" in done.stdout + done.stderr
    assert house.http.get(f"{API}/models/demo/copy/lineage").json()["edges"][0]["parent"] == "secret/source"
    with httpx.Client(base_url=house.url) as outside:
        shown = outside.get(f"{API}/models/demo/copy/lineage").json()
        assert shown["badge"] == "contradicted" and shown["edges"][0]["parent"] == "a private model"
        assert shown["candidates"][0]["model"] == "a private model" and shown["alarms"][0]["code"] == "undeclared"
        seen = ["/demo/copy", "/api/models/demo/copy", f"{API}/models/demo/copy", f"{API}/models/demo/copy/lineage"]
        for path in [*seen, f"{API}/licence/judge?model=demo/copy", "/demo/copy/tree/main"]:
            assert "secret" not in outside.get(path).text, path
        page = outside.get("/demo/copy").text
        assert "The weights descend from a private model" in page, "only the JSON warned of an unnamed ancestor"
        assert '<a href="/demo/copy/family">contradicted</a>' in page
        assert outside.post(f"{API}/models/demo/copy/lineage", json={}).status_code == 401
    assert "The weights descend from secret/source" in house.http.get("/demo/copy").text


@pytest.mark.slow
def test_the_command_examines_and_shows_what_the_weights_say(house: Running, tmp_path: Path) -> None:
    done = upload(house, tmp_path / "m", "demo/shown", tuned(A, 9), card("cc-by-nc-4.0"), xet=True)
    assert done.returncode == 0
    said = house.cli("lineage", "examine", "demo/shown")
    assert said.returncode == 0 and "finetune of demo/base: verified" in said.stdout, said.stdout + said.stderr
    found = house.told("lineage", "examine", "demo/shown")
    assert found["state"] == "examined" and found["edges"][0]["status"] == "verified"
    assert {check["name"] for check in found["candidates"][0]["checks"]} >= {"shared_tensors", "cosine"}
    missing = house.cli("lineage", "examine", "demo/none")
    assert missing.returncode != 0 and "Traceback" not in missing.stderr


@pytest.mark.slow
def test_a_server_killed_between_upload_and_commit_still_knows_the_weights(house: Running, tmp_path: Path) -> None:
    import hashlib

    data = packed(tuned(A, 21))
    sha256 = hashlib.sha256(data).hexdigest()
    house.http.post("/api/repos/create", json={"name": "late", "organization": "demo"})
    batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": sha256, "size": len(data)}]}
    answer = house.http.post("/demo/late.git/info/lfs/objects/batch", json=batch).json()
    action = answer["objects"][0]["actions"]["upload"]
    assert httpx.put(action["href"], content=data, headers=action.get("header", {})).status_code == 200
    house.kill()
    time.sleep(0.2)
    house.start()
    lines = [
        '{"key": "header", "value": {"summary": "Add"}}',
        f'{{"key": "lfsFile", "value": {{"path": "model.safetensors", "algo": "sha256", "oid": "{sha256}"}}}}',
    ]
    made = house.http.post(
        "/api/models/demo/late/commit/main",
        content="\n".join(lines),
        headers={"content-type": "application/x-ndjson"},
    )
    assert made.status_code == 200, made.text
    assert any("demo/base" in warning for warning in made.headers.get_list("x-hf-warning"))
