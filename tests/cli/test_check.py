"""`ecotone check`: what a pipeline relies on: exit status, SARIF, and a sentence for a file that is wrong."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecotone.cli.uses import flattened, read_uses
from ecotone.vocabulary import Invalid
from tests import inside
from tests.running import ECOTONE, Running, clean_environment, running

CARD = "---\nlicense: {}\nbase_model: {}\n---\n# A model\n"
SHOP = '[[use]]\nname = "shop"\nmode = "serve_api"\npurpose = "commercial"\n'
LAB = '[[use]]\nname = "lab"\nmode = "run"\npurpose = "research"\n'


def check(folder: Path, *argv: str, alone: bool = False, **env: str) -> "subprocess.CompletedProcess[str]":
    """The command without a server, in this process or in one of its own: nobody answers at the address it is given."""
    away = clean_environment(ECOTONE_URL="http://127.0.0.1:9", NO_COLOR="1", **env)
    if not alone:
        return inside.run(("check", *argv), dict(os.environ | away), folder)
    command = [sys.executable, ECOTONE, "check", *argv]
    return subprocess.run(command, cwd=folder, env=os.environ | away, capture_output=True, text=True, timeout=200)


def place(folder: Path, uses: str, licence: str = "apache-2.0", base: str = "[]") -> Path:
    (folder / "use.toml").write_text(uses)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "README.md").write_text(CARD.format(licence, base))
    return folder


@pytest.mark.parametrize(
    ("licence", "base", "status"),
    [
        ("apache-2.0", "[]", 0),
        ("cc-by-nc-4.0", "[]", 4),
        ("other", "[]", 5),
        ("apache-2.0", "team/nobody-knows", 5),
        ("cc-by-nc-4.0", "team/nobody-knows", 4),
    ],
)
def test_a_folder_is_judged_without_a_server_and_the_worst_use_is_the_exit_status(
    tmp_path: Path, licence: str, base: str, status: int
) -> None:
    done = check(place(tmp_path, SHOP + LAB, licence, base), "--use", "use.toml", "model", "--json", alone=True)
    assert done.returncode == status, done.stderr
    told = json.loads(done.stdout)
    assert [u["name"] for u in told["uses"]] == ["shop", "lab"]
    assert told["notice"] == "not legal advice" and told["knowledge_base"]


def test_parents_and_positions_may_be_told_for_a_folder(tmp_path: Path) -> None:
    parents = '[parents]\n"team/base" = "llama3.1"\n'
    folder = place(tmp_path, SHOP + parents, "llama3.1", "team/base")
    assert check(folder, "--use", "use.toml", "model").returncode == 5
    place(tmp_path, SHOP + "org.mau_at.2024-06 = 1000\n" + parents, "llama3.1", "team/base")
    assert check(folder, "--use", "use.toml", "model").returncode == 0
    inside = '[[use]]\nmode = "run"\npurpose = "internal_commercial"\n'
    place(tmp_path, inside, "cc-by-nc-4.0")
    assert check(folder, "--use", "use.toml", "model").returncode == 4
    place(tmp_path, inside + '[positions]\nnc_internal = "allow"\n', "cc-by-nc-4.0")
    assert check(folder, "--use", "use.toml", "model").returncode == 0


def sarif_is_well_formed(log: dict[str, Any]) -> None:
    """What SARIF 2.1.0 asks of a log (sections 3.13 to 3.49), as far as ours has it."""
    assert log["version"] == "2.1.0" and log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    driver = run["tool"]["driver"]
    assert driver["name"] == "Ecotone" and driver["semanticVersion"]
    ids = [rule["id"] for rule in driver["rules"]]
    assert len(ids) == len(set(ids))
    assert all(rule["shortDescription"]["text"] and rule["fullDescription"]["text"] for rule in driver["rules"])
    assert all(invocation["executionSuccessful"] is True for invocation in run["invocations"])
    for result in run["results"]:
        assert ids[result["ruleIndex"]] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert result["message"]["text"].strip()
        (location,) = result["locations"]
        assert location["physicalLocation"]["artifactLocation"]["uri"]
        assert location["physicalLocation"]["region"]["startLine"] >= 1
        for suppression in result.get("suppressions", ()):
            assert suppression["kind"] == "external" and suppression["status"] == "accepted"


def test_each_reason_against_is_a_result_with_its_clause(tmp_path: Path) -> None:
    folder = place(tmp_path, SHOP + LAB, "cc-by-nc-4.0")
    assert check(folder, "--use", "use.toml", "model", "--sarif", "out.sarif").returncode == 4
    log = json.loads((folder / "out.sarif").read_text())
    sarif_is_well_formed(log)
    (result,) = log["runs"][0]["results"]
    assert result["ruleId"].startswith("CC-BY-NC-4.0#") and result["level"] == "error"
    assert "2(a)(1)" in result["message"]["text"] and "shop" in result["message"]["text"]
    at = result["locations"][0]["physicalLocation"]
    assert at == {"artifactLocation": {"uri": "model/README.md"}, "region": {"startLine": 2}}
    assert log["runs"][0]["tool"]["driver"]["properties"]["notice"] == "not legal advice"


def test_a_clean_check_is_an_empty_log_and_stdout_may_be_its_place(tmp_path: Path) -> None:
    done = check(place(tmp_path, SHOP), "--use", "use.toml", "model", "--sarif", "-")
    assert done.returncode == 0
    log = json.loads(done.stdout)
    sarif_is_well_formed(log)
    assert log["runs"][0]["results"] == []


@pytest.mark.parametrize(
    ("uses", "says"),
    [
        ("", "[[use]]"),
        ("use = []", "[[use]]"),
        ("[[use]", "TOML"),
        ('[[use]]\nmode = "wish"\npurpose = "commercial"', "serve_api"),
        ('[[use]]\nmode = "run"', "purpose"),
        (SHOP + 'users = "many"', "users"),
        (SHOP + "users = true", "users"),
        (SHOP + "user = 5", "'user'"),
        (SHOP + SHOP, "alike"),
        (SHOP + 'date = "soon"', "YYYY-MM-DD"),
        (SHOP + "[surprise]\na = 1", "surprise"),
        (SHOP + "[parents]\na = 1", "parents"),
        (SHOP + '[positions]\nno_such = "x"', "no_such"),
    ],
)
def test_a_file_of_uses_that_is_wrong_is_wrong_usage_with_a_sentence(tmp_path: Path, uses: str, says: str) -> None:
    done = check(place(tmp_path, uses), "--use", "use.toml", "model")
    assert done.returncode == 2 and says in done.stderr, (done.returncode, done.stderr)
    assert not done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize("wrong", [("--use", "absent.toml", "model"), ("--use", "use.toml", "nowhere")])
def test_what_is_not_there_is_named(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    done = check(place(tmp_path, SHOP), *wrong)
    assert done.returncode == 2 and ("absent" in done.stderr or "nowhere" in done.stderr)


def test_a_card_that_is_broken_is_named(tmp_path: Path) -> None:
    folder = place(tmp_path, SHOP)
    for broken in (b"---\nlicense: [\n---\n", b"\xff\xfe"):
        (folder / "model" / "README.md").write_bytes(broken)
        done = check(folder, "--use", "use.toml", "model")
        assert done.returncode not in (0, 3, 4, 5) and "Traceback" not in done.stderr and done.stderr


def test_uses_are_read_in_each_of_their_forms(tmp_path: Path) -> None:
    file = tmp_path / "ci.toml"
    file.write_text(
        '[use.shop]\nmode = "run"\npurpose = "research"\n[use.shop.variables]\n"org.mau" = 4\ndate = 2026-01-01'
    )
    (named,) = read_uses(file).uses
    assert (named.name, named.question["variables"]) == ("shop", {"org.mau": 4, "date": "2026-01-01"})
    file.write_text('mode = "run"\npurpose = "research"\nterritory = ["DE"]\norg.mau_at.2024-06 = 7')
    (alone,) = read_uses(file).uses
    assert alone.name == "ci" and alone.question["territory"] == ["DE"]
    assert alone.question["variables"] == {"org.mau_at.2024-06": 7}
    assert flattened({"a": {"b": {"c": 1}}, "d": 2}) == {"a.b.c": 1, "d": 2}
    file.write_text("x = " + "[" * 5000)
    with pytest.raises(Invalid):
        read_uses(file)


# -- against a server --------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("check")) as found:
        for name, licence in (("demo/plain", "apache-2.0"), ("demo/nc", "cc-by-nc-4.0")):
            found.publish(name, {"README.md": CARD.format(licence, "[]").encode()})
        (found.folder / "use.toml").write_text(SHOP + LAB)
        yield found


def test_a_model_at_the_server_is_judged_with_the_houses_rules(server: Running) -> None:
    assert server.cli("check", "--use", "use.toml", "demo/plain").returncode == 0
    assert server.cli("check", "--use", "use.toml", "demo/nc").returncode == 4
    rule = server.told("rule", "add", "block", "demo/plain", "--reason", "not here", "--value", "call")
    done = server.cli("check", "--use", "use.toml", "demo/plain", "--sarif", "out.sarif")
    assert done.returncode == 4 and "not here" in done.stdout
    log = json.loads((server.folder / "out.sarif").read_text())
    sarif_is_well_formed(log)
    assert {r["ruleId"] for r in log["runs"][0]["results"]} == {"organisation#block"}
    server.told("rule", "remove", rule["id"])
    gone = server.cli("check", "--use", "use.toml", "demo/absent")
    assert gone.returncode == 1 and "demo/absent" in gone.stderr


def test_a_waived_use_is_shown_as_suppressed_and_passes_only_when_that_is_asked(server: Running) -> None:
    rule = server.told("rule", "add", "waiver", "demo/nc", "--reason", "signed", "--expires", "2099-01-01")
    second = server.told("token", "create", "dora", "--role", "admin")["token"]
    assert server.cli("rule", "approve", rule["id"]).returncode == 1
    assert server.cli("check", "--use", "use.toml", "demo/nc", "--accept-waivers").returncode == 4
    assert server.cli("rule", "approve", rule["id"], env={"ECOTONE_TOKEN": second}).returncode == 0
    assert server.cli("check", "--use", "use.toml", "demo/nc", "--sarif", "out.sarif").returncode == 4
    (result,) = json.loads((server.folder / "out.sarif").read_text())["runs"][0]["results"]
    assert "dora" in result["suppressions"][0]["justification"]
    assert server.cli("check", "--use", "use.toml", "demo/nc", "--accept-waivers").returncode == 0


def test_the_profile_is_told_piece_by_piece_on_the_command_line(server: Running) -> None:
    assert "--mau 2024-06=USERS" in server.cli("profile", "show").stdout
    server.told(
        *("profile", "set", "--users", "4000", "--mau", "2024-06=1000", "--revenue", "5e6", "--domicile", "DE"),
        *("--position", "nc_internal=deny"),
    )
    told = server.told("profile", "set", "--mau", "2023-06=900", "--no-affiliates")["profile"]
    assert told["mau_at"] == {"2023-06": 900, "2024-06": 1000} and told["users"] == 4000 and not told["affiliates"]
    told = server.told("profile", "set", "--affiliates", "--clear", "2023-06", "--clear", "revenue")["profile"]
    assert told["mau_at"] == {"2024-06": 1000} and told["revenue"] is None and told["positions"]
    llama = ("licence", "check", "meta-llama/Llama-3.1-8B", "--mode", "serve_api", "--purpose", "commercial")
    done = server.cli(*llama)
    assert done.returncode == 0 and "profile: org.mau, org.mau_at.2024-06" in done.stdout.replace("org.domicile, ", "")
    assert server.cli(*llama, "--set", "org.mau_at.2024-06=800000000").returncode == 3
    for wrong in (("--mau", "2024=5"), ("--mau", "2024-06"), ("--domicile", "Germany"), ("--clear", "nothing")):
        refused = server.cli("profile", "set", *wrong)
        assert refused.returncode in (1, 2) and refused.stderr and not refused.stdout
