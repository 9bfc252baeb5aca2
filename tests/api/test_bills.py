"""Bills of materials of models on a server: what is in the hub, what is known above it, and nothing that is private."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi

from ecotone.api import PREFIX
from ecotone.licences.bom import validation
from tests.running import ADMIN, Running, running

BASE = "meta-llama/Llama-2-7b-hf"
LICENCE = (
    b"Terms of Use of Our Model\n" + b"whoever takes this has to send us a postcard each year and may not ask why. " * 6
)


def card(*lines: str) -> bytes:
    return "\n".join(["---", *lines, "---", "# A model", "", "words " * 60]).encode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("bills")) as found:
        api = HfApi(endpoint=found.url, token=ADMIN)
        api.create_repo("team/tickets", repo_type="dataset")
        api.upload_file(
            path_or_fileobj=b"---\nlicense: cc-by-4.0\n---\n",
            path_in_repo="README.md",
            repo_id="team/tickets",
            repo_type="dataset",
        )
        found.publish("team/hidden", {"README.md": card("license: mit")})
        api.update_repo_settings("team/hidden", private=True)
        found.publish("team/base", {"README.md": card("license: llama2", f"base_model: {BASE}"), "LICENSE": LICENCE})
        lines = ["license: llama2", "base_model: [team/base, team/hidden]", "base_model_relation: merge"]
        merge = card(*lines, "datasets: [team/tickets]", "pipeline_tag: text-generation")
        found.publish("team/merge", {"README.md": merge, "train.py": b"print()"})
        yield found


def bom(server: Running, model: str, form: str = "cyclonedx-1.7", http: httpx.Client | None = None) -> dict[str, Any]:
    answer = (http or server.http).get(f"{PREFIX}/models/{model}/bom", params={"format": form})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


def properties(component: dict[str, Any]) -> dict[str, str]:
    return {p["name"].removeprefix("ecotone:"): p["value"] for p in component["properties"]}


def test_a_merge_comes_with_its_parents_data_and_what_the_starter_catalogue_knows_above(server: Running) -> None:
    document = bom(server, "team/merge")
    component = document["metadata"]["component"]
    head = server.http.get(f"{PREFIX}/models/team/merge").json()["head"]
    assert component["version"] == head and component["purl"].startswith(
        f"pkg:huggingface/team/merge@{head}?repository"
    )
    assert [properties(a)["relation"] for a in component["pedigree"]["ancestors"]] == ["merge", "merge"]
    names = {f"{c.get('group')}/{c['name']}" for c in document["components"]}
    assert {"team/base", "team/hidden", "team/tickets", BASE, "meta-llama/Llama-2-7b"} <= names
    data = next(c for c in document["components"] if c["type"] == "data")
    assert {e["license"]["id"] for e in data["licenses"]} == {"CC-BY-4.0"}
    train = next(f for f in component["components"] if f["name"] == "train.py")
    assert train["hashes"][0]["content"] == hashlib.sha256(b"print()").hexdigest()


def test_a_text_that_is_none_of_those_known_leaves_no_conclusion(server: Running) -> None:
    base = bom(server, "team/base")["metadata"]["component"]
    assert {e["license"]["acknowledgement"] for e in base["licenses"]} == {"declared"}
    told = properties(base)
    assert told["licence:concluded"] == "NOASSERTION" and "none of those known" in told["licence:concluded:reason"]


@pytest.mark.parametrize("form", ["cyclonedx-1.7", "cyclonedx-1.6", "spdx-3"])
def test_documents_are_valid_and_the_server_finds_nothing_in_them(server: Running, form: str) -> None:
    document = bom(server, "team/merge", form)
    claimed = validation.format_of(document)
    assert claimed is not None and validation.problems(document, claimed) == []
    answer = server.http.post(PREFIX + "/bom/check", content=json.dumps(document)).json()
    assert (answer["valid"], answer["findings"]) == (True, [])


def test_who_may_not_see_a_parent_is_not_told_of_it(server: Running) -> None:
    with httpx.Client(base_url=server.url) as anybody:
        text = json.dumps(bom(server, "team/merge", http=anybody))
        assert "undisclosed" not in text and "named here" in text, "that it is here was told"
        gone = anybody.get(f"{PREFIX}/models/team/hidden/bom")
        assert gone.status_code == 404 and gone.json()["error"]["code"] == "model_not_found"
        refused = anybody.post(PREFIX + "/bom/check", content=b"{}")
        assert refused.status_code == 401


def test_the_files_of_a_gated_model_are_listed_to_those_let_in_alone(server: Running) -> None:
    server.publish("team/gated", {"README.md": card("license: mit"), "model.bin": b"weights"})
    HfApi(endpoint=server.url, token=ADMIN).update_repo_settings("team/gated", gated="manual")
    digest = hashlib.sha256(b"weights").hexdigest()
    assert digest in json.dumps(bom(server, "team/gated"))
    with httpx.Client(base_url=server.url) as anybody:
        text = json.dumps(bom(server, "team/gated", http=anybody))
    assert digest not in text and "model.bin" not in text and "behind a gate" in text


def test_documents_are_checked_against_the_models_of_the_server(server: Running) -> None:
    claim = {
        "type": "machine-learning-model",
        "group": "team",
        "name": "merge",
        "licenses": [{"license": {"id": "MIT"}}],
    }
    raw = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [claim]})
    found = server.http.post(PREFIX + "/bom/check", content=raw).json()["findings"]
    assert {f["rule"] for f in found} == {"licence-differs", "ancestor-missing"}
    assert any("team/base" in f["message"] for f in found)
    for bad in (b"", b"[" * 100_000, b"\xff"):
        answer = server.http.post(PREFIX + "/bom/check", content=bad)
        assert (answer.status_code, answer.json()["findings"][0]["rule"]) == (200, "unreadable")
    assert server.http.post(PREFIX + "/bom/check", content=b" " * (5 << 20)).status_code == 413


def test_wrong_words_are_a_sentence(server: Running) -> None:
    for query, word in (("format=xml", "cyclonedx-1.7"), ("timestamp=yesterday", "YYYY"), ("serial=1", "UUID")):
        answer = server.http.get(f"{PREFIX}/models/team/merge/bom?{query}")
        assert answer.status_code == 400 and word in answer.json()["error"]["message"]


def test_the_commands_ask_the_server_for_a_model(server: Running, tmp_path: Path) -> None:
    file = tmp_path / "bom.json"
    done = server.cli("lineage", "bom", "team/merge@main", "--format", "spdx-3", "--output", str(file))
    assert done.returncode == 0, done.stderr
    checked = server.cli("lineage", "bom", "--check", str(file), "--server")
    assert checked.returncode == 0 and "spdx-3.0.1, valid" in checked.stdout
    rated = server.told("licence", "openness", "team/merge")
    states = {c["name"]: c for c in rated["components"]}
    assert rated["class"] == 0 and states["Training code"]["evidence"] == ["file train.py"]
    assert states["Datasets"]["licence"] == "CC-BY-4.0"
