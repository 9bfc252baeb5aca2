"""Bills of materials and openness from the command line, without a server: what a pipeline writes and gates on."""

import json
import struct
import subprocess
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ecotone.catalog.bills import bill_of_folder
from ecotone.catalog.bills.writing import written
from ecotone.cli.main import app
from ecotone.licences import KnowledgeBase
from ecotone.vocabulary import Invalid
from tests.running import ECOTONE, clean_environment

KNOWLEDGE = KnowledgeBase.load()
CARD = """---
license: llama2
base_model: meta-llama/Llama-2-7b-hf
datasets: [team/tickets]
pipeline_tag: text-generation
language: en
model-index:
- name: support
  results:
  - dataset: {name: tickets, type: team/tickets}
    metrics: [{type: accuracy, value: 0.91}]
---
# Support
## Intended uses
Tickets of the web shop.
## Limitations
English only.
"""


def started(*argv: str) -> "subprocess.CompletedProcess[str]":
    """The command as a process of its own."""
    env = clean_environment(ECOTONE_URL="http://127.0.0.1:9", NO_COLOR="1", COLUMNS="200", SOURCE_DATE_EPOCH="0")
    return subprocess.run([ECOTONE, *argv], env=env, capture_output=True, text=True)


def run(*argv: str) -> Result:
    """The same in this process, which saves the start."""
    return CliRunner().invoke(app, argv, env={"ECOTONE_URL": "http://127.0.0.1:9", "SOURCE_DATE_EPOCH": "0"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "support"
    found.mkdir()
    (found / "README.md").write_text(CARD)
    (found / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
    (found / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    return found


def test_a_folder_gives_the_same_bytes_twice_and_its_own_check_passes(folder: Path, tmp_path: Path) -> None:
    files = [tmp_path / "one.json", tmp_path / "two.json"]
    done = started("lineage", "bom", str(folder), "--name", "team/support@v1", "--output", str(files[0]))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert run("lineage", "bom", str(folder), "--name", "team/support@v1", "--output", str(files[1])).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    document = json.loads(files[0].read_text())
    component = document["metadata"]["component"]
    assert (document["metadata"]["timestamp"], component["group"], component["version"]) == (
        "1970-01-01T00:00:00Z",
        "team",
        "v1",
    )
    card = component["modelCard"]
    assert card["modelParameters"]["architectureFamily"] == "llama"
    assert {"name": "ecotone:parameters", "value": "6"} in card["properties"]
    assert card["considerations"] == {
        "useCases": ["Tickets of the web shop."],
        "technicalLimitations": ["English only."],
    }
    assert card["quantitativeAnalysis"]["performanceMetrics"][0] == {
        "type": "accuracy",
        "value": "0.91",
        "slice": "tickets",
    }
    checked = run("lineage", "bom", "--check", str(files[0]))
    assert (checked.exit_code, "0 findings" in checked.stdout) == (0, True), checked.stdout


def test_findings_end_with_status_4_and_wrong_usage_with_2(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    claim = {
        "type": "machine-learning-model",
        "name": "meta-llama/Llama-2-7b",
        "licenses": [{"license": {"id": "MIT"}}],
    }
    file.write_text(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [claim]}))
    found = started("lineage", "bom", "--check", str(file), "--json")
    assert found.returncode == 4
    assert [f["rule"] for f in json.loads(found.stdout)["findings"]] == ["licence-differs"]
    for argv in (["--check", str(tmp_path / "gone.json")], [str(folder), "--format", "xml"], []):
        wrong = run("lineage", "bom", *argv)
        assert (wrong.exit_code, wrong.stdout) == (2, "") and wrong.stderr and "Traceback" not in wrong.stderr


def test_openness_of_a_folder_and_of_a_model_file(folder: Path, tmp_path: Path) -> None:
    rated = json.loads(run("licence", "openness", str(folder), "--json").stdout)
    states = {c["name"]: c for c in rated["components"]}
    assert (rated["class"], rated["next_class"]) == (0, 3)
    assert states["Model parameters (Final)"]["status"] == "not_open"
    file = tmp_path / "model.yml"
    file.write_text("release: {name: x, license: {distribution: {name: MIT}}, components: [{name: Model card}]}")
    shown = run("licence", "openness", str(file))
    assert shown.exit_code == 0 and "x: Unclassified (class 3 17 %" in shown.stdout and "2403.13784" in shown.stdout


def test_a_cache_of_a_hub_client_tells_id_and_revision_and_its_links_are_followed(folder: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--team--support" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    blobs = tmp_path / "models--team--support" / "blobs"
    folder.rename(blobs)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(file)
    (tmp_path / "private.key").write_text("not of this model")
    (snapshot / "leads-out.txt").symlink_to(tmp_path / "private.key")
    (snapshot / "loop").symlink_to(snapshot)
    bill = bill_of_folder(snapshot, KNOWLEDGE)
    assert (bill.subject.id, bill.subject.revision, len(bill.subject.files)) == ("team/support", "a" * 40, 3)
    document = written(bill, KNOWLEDGE, "cyclonedx-1.7")
    assert document["metadata"]["component"]["purl"] == f"pkg:huggingface/team/support@{'a' * 40}"


def test_broken_folders_are_a_bill_or_a_sentence(folder: Path, tmp_path: Path) -> None:
    (folder / "README.md").write_text("---\nlicense: [mit\n---\n")
    (folder / "config.json").write_text("[" * 100_000)
    (folder / "model.safetensors").write_bytes(b"\xff" * 40)
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": ["x"], "revision": 7}')
    subject = bill_of_folder(folder, KNOWLEDGE).subject
    assert subject.licensing.concluded == ("none",) and "YAML" in subject.licensing.reason
    assert subject.model.parameters is None
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(Invalid, match="holds no files"):
        bill_of_folder(empty, KNOWLEDGE)
    with pytest.raises(Invalid, match="no name"):
        bill_of_folder(folder, KNOWLEDGE, name="../x")
