"""Licence commands without a server: scripts rely on their exit statuses and on JSON on stdout."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests import inside
from tests.running import ECOTONE, clean_environment

CASE = {
    "nodes": [{"id": "me/x", "licence": "mit"}, {"id": "base", "licence": "apache-2.0"}],
    "edges": [{"child": "me/x", "parent": "base", "relation": "finetune"}],
    "target": "me/x",
    "use": {"mode": "serve_api", "purpose": "commercial"},
}


def run(*argv: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    env = clean_environment(ECOTONE_URL="http://127.0.0.1:9", NO_COLOR="1", COLUMNS="200")
    if argv[0] != "ask":
        return inside.run(("licence", *argv), env, Path.cwd(), stdin)
    return subprocess.run([ECOTONE, "licence", *argv], env=env, capture_output=True, text=True, input=stdin)


def ask(licence: Any, **use: Any) -> "subprocess.CompletedProcess[str]":
    base = {"id": "base", "licence": licence}
    case = {**CASE, "nodes": [CASE["nodes"][0], base], "use": {**CASE["use"], **use}}  # type: ignore[index, dict-item]
    return run("ask", "-", "--json", stdin=json.dumps(case))


@pytest.mark.parametrize(
    ("licence", "use", "status", "verdict"),
    [
        ("apache-2.0", {}, 0, "allow"),
        ("llama3.1", {"org": {"mau_at": {"2024-06": 1}}}, 0, "allow_with_duties"),
        ("llama3.1", {"org.mau_at.2024-06": 800_000_000}, 3, "ask_licence"),
        ("cc-by-nc-4.0", {}, 4, "deny"),
        ("my-own", {}, 5, "unknown"),
    ],
)
def test_the_exit_status_is_the_verdict(licence: str, use: dict[str, Any], status: int, verdict: str) -> None:
    done = ask(licence, **use)
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["verdict"]) == (status, verdict)
    assert answer["notice"] == "not legal advice" and answer["knowledge_base"]


def test_a_case_that_cannot_be_read_is_wrong_usage_with_a_sentence(tmp_path: Path) -> None:
    for content, words in (("{", "no JSON"), ("[1]", "object"), (json.dumps({**CASE, "target": "x"}), "target")):
        file = tmp_path / "case.json"
        file.write_text(content)
        done = run("ask", str(file), "--json")
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr and "expected" in done.stderr and "Traceback" not in done.stderr
    gone = run("ask", str(tmp_path / "gone.json"))
    assert gone.returncode == 2 and "gone.json" in gone.stderr


def test_an_answer_for_people_tells_what_was_not_understood(tmp_path: Path) -> None:
    file = tmp_path / "case.json"
    file.write_text(json.dumps({**CASE, "colour": "red"}))
    done = run("ask", str(file))
    assert done.returncode == 0
    assert "not legal advice" in done.stdout and "colour" in done.stdout


def test_entries_are_listed_and_shown() -> None:
    rows = json.loads(run("list", "--json").stdout)
    assert {"Apache-2.0", "llama-3.1"} <= {row["id"] for row in rows}
    for name in ("llama-3.1", "llama3.1", "LicenseRef-llama-3.1"):
        shown = json.loads(run("show", name, "--json").stdout)
        assert shown["id"] == "llama-3.1"
        assert shown["text"]["source"] and shown["facts"][0]["clause"]["sec"]
        assert shown["knowledge_base"] and shown["notice"] == "not legal advice"
    assert "1.b.i" in run("show", "llama-3.1").stdout
    several = run("show", "gemma")
    assert several.returncode == 1 and "gemma-terms-2024-04-01 and gemma-terms-2025-03-24" in several.stderr
    gone = run("show", "no-such")
    assert gone.returncode == 1 and "no-such" in gone.stderr


def test_two_states_of_knowledge_are_compared(tmp_path: Path) -> None:
    now, old = str(tmp_path / "now"), tmp_path / "old"
    assert run("export", now).returncode == 0
    assert "no entry differs" in run("diff", now).stdout
    old.mkdir()
    entry = json.loads(run("show", "MIT", "--json").stdout)
    del entry["knowledge_base"], entry["notice"]
    entry["title"] = "Another"
    (old / "mit.yaml").write_text(json.dumps(entry))
    answer = json.loads(run("diff", str(old), now, "--json").stdout)
    mit = next(e for e in answer["entries"] if e["entry"] == "MIT")
    assert (mit["change"], mit["fields"]["title"][0]) == ("changed", "Another")
    wrong = run("diff", str(tmp_path / "gone"))
    assert wrong.returncode == 2 and "gone" in wrong.stderr
    server = run("diff", now, "--server")
    assert server.returncode == 1 and "No server answers" in server.stderr
