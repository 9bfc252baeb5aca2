"""`ecotone licence detect`: the contract that scripts rely on, without server or database."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecotone.licences.detection import SecondOpinionFailed, second_opinion

ROOT = Path(__file__).resolve().parents[3]
SCANCODE = os.environ.get("ECOTONE_SCANCODE_PYTHON")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ECOTONE_")}
    command = [sys.executable, "-c", "from ecotone.cli import main; main()", "licence", "detect", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=kept | environment, check=False)


def test_every_file_has_its_row_with_the_fields_promised(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text((ROOT / "LICENSE").read_text())
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    (tmp_path / "NOTICE").write_bytes(b"\0\1\2")
    done = run(str(tmp_path), "--json")
    rows = {Path(r["path"]).name: r for r in json.loads(done.stdout)}
    assert done.returncode == 0
    assert rows["NOTICE"]["detected"] == []
    assert (rows["README.md"]["declared"], rows["README.md"]["detected"]) == ("mit", [])
    (one,) = rows["LICENSE"]["detected"]
    assert one.keys() >= {"id", "spdx", "coverage", "confidence", "near"}
    assert (one["id"], one["spdx"], one["near"]) == ("Apache-2.0", "Apache-2.0", [])
    assert 0.99 < one["coverage"] <= 1 and 0 < one["confidence"] <= 1
    assert "NOTICE: binary" in done.stderr and "not legal advice" in done.stderr


def test_a_path_that_is_not_there_fails_with_its_name(tmp_path: Path) -> None:
    done = run(str(tmp_path / "absent"), "--json")
    assert (done.returncode, json.loads(done.stdout)) == (1, [])
    assert "absent: no such file" in done.stderr


def test_without_scancode_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("x")
    done = run(str(tmp_path), "--second-opinion", ECOTONE_SCANCODE_PYTHON=sys.executable)
    assert done.returncode == 1
    assert 'pip install "ecotone[detect]"' in done.stderr


def test_an_interpreter_that_is_not_there_is_named() -> None:
    with pytest.raises(SecondOpinionFailed, match="/nowhere/python cannot be started"):
        second_opinion([Path("LICENSE")], python="/nowhere/python")


@pytest.mark.skipif(SCANCODE is None, reason="needs ScanCode: ECOTONE_SCANCODE_PYTHON names no interpreter")
def test_scancode_gives_its_opinion_from_a_process_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text((ROOT / "LICENSE").read_text())
    done = run(str(tmp_path), "--json", "--second-opinion", ECOTONE_SCANCODE_PYTHON=str(SCANCODE))
    (row,) = json.loads(done.stdout)
    assert row["second_opinion"]["agrees"] is True
    assert row["second_opinion"]["ids"] == ["Apache-2.0"]
