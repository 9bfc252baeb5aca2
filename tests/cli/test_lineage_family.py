"""Family tree, what-if and withdrawal drill on a real server, from the command line."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from huggingface_hub import HfApi

from ecotone.ledger.documents import proof_of
from tests.running import ADMIN, Running, running

CARD = "---\nlicense: apache-2.0\n{}---\n# It\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("families")) as found:
        found.publish("a/base", {"README.md": CARD.format("").encode()})
        for child, parent in (("b/tuned", "a/base"), ("c/small", "b/tuned")):
            found.publish(child, {"README.md": CARD.format(f"base_model: {parent}\n").encode()})
        yield found


def test_the_tree_names_who_descends_with_verdict_relation_status_and_evidence(server: Running) -> None:
    told = server.told("lineage", "family", "b/tuned")
    assert [(m["title"], m["depth"]) for m in told["members"]] == [("a/base", -1), ("b/tuned", 0), ("c/small", 1)]
    assert all(m["verdict"] == "allow" for m in told["members"])
    edge = next(e for e in told["edges"] if e["child"] == "c/small")
    assert (edge["parent"], edge["relation"], edge["status"]) == ("b/tuned", "finetune", "declared")
    assert "base_model" in edge["evidence"]["text"]
    plain = server.cli("lineage", "family", "b/tuned").stdout
    assert "1 down  c/small  allow" in plain and "finetune of b/tuned, declared" in plain
    assert server.told("lineage", "family", "a/base", "--relation", "quantised")["descendants"] == 0
    wrong = server.cli("lineage", "family", "a/base", "--relation", "cousin")
    assert wrong.returncode == 1 and "it is one of" in wrong.stderr


def test_what_would_change_is_told_with_clause_and_way(server: Running) -> None:
    told = server.told(
        *("lineage", "impact", "a/base", "--licence", "CC-BY-NC-4.0", "--mode", "serve_api", "--purpose", "commercial")
    )
    small = next(m for m in told["models"] if m["model"] == "c/small")
    assert [s["child"] for s in small["way"]] == ["b/tuned", "c/small"]
    assert small["changes"][0]["after"] == "deny" and small["changes"][0]["clause"]["entry"] == "CC-BY-NC-4.0"
    plain = server.cli("lineage", "impact", "a/base", "--licence", "withdrawn", "--from", "2027-01-01")
    assert "judged as on 2027-01-01" in plain.stdout and "allow -> deny" in plain.stdout, plain.stderr
    assert "through finetune b/tuned, finetune c/small" in plain.stdout
    late = server.cli("lineage", "impact", "a/base", "--licence", "withdrawn", "--from", "yesterday")
    assert late.returncode == 2 and "--from takes a day" in late.stderr
    wrong = server.cli("lineage", "impact", "a/base", "--licence", "no-such-text")
    assert wrong.returncode == 1 and "ecotone licence list" in wrong.stderr


@pytest.mark.slow  # a dozen commands, each a process
def test_a_drill_is_signed_recorded_and_checked_off_until_nothing_is_left(server: Running, tmp_path: Path) -> None:
    server.publish("d/ended", {"README.md": CARD.format("").encode()})
    server.publish("d/child", {"README.md": CARD.format("base_model: d/ended\n").encode()})
    file = tmp_path / "drill.json"
    made = server.told("lineage", "withdrawal", "d/ended", "--reason", "a letter", "--write", str(file))
    assert {(i["kind"], i["name"]) for i in made["items"]} >= {("model", "d/ended"), ("derivative", "d/child")}
    assert made["id"] in server.cli("lineage", "withdrawals").stdout
    ledger = "".join(p.read_text() for p in (server.data / "ledger").rglob("*") if p.is_file())
    assert made["proof"]["sha256"] in ledger and '"withdrawal.drilled"' in ledger
    key = server.http.get("/api/ecotone/v1/ledger/key").json()["key"]
    assert server.cli("lineage", "withdrawal-verify", str(file), "--signature-only", "--key", key).returncode == 0
    left = server.cli("lineage", "withdrawal-verify", str(file))
    assert left.returncode == 4 and "still there" in left.stdout
    for name in ("d/child", "d/ended"):
        HfApi(endpoint=server.url, token=ADMIN).delete_repo(name)
    done = server.told("lineage", "withdrawal-verify", made["id"])
    assert done["done"] and done["gone"] == len([i for i in done["items"] if i["state"] == "gone"])
    file.write_text(file.read_text().replace("d/child", "d/other"))
    forged = server.cli("lineage", "withdrawal-verify", str(file))
    assert forged.returncode == 4 and "not what was signed" in forged.stderr
    again = server.told("lineage", "family", "d/ended")
    assert [m["deleted"] for m in again["members"]] == [True, True]


def test_strangers_see_no_drill_and_no_what_if(server: Running) -> None:
    drill = {"model": "a/base"}
    for token, statuses in ((None, (401, 401)), ("reader", (200, 403))):
        headers = {}
        if token is not None:
            made = server.http.post("/api/ecotone/v1/tokens", json={"user": "rita", "role": "read"}).json()
            headers = {"authorization": f"Bearer {made['token']}"}
        with httpx.Client(base_url=server.url + "/api/ecotone/v1/lineage", headers=headers) as caller:
            asked = caller.post("/impact", json={"model": "a/base", "licence": "withdrawn"}).status_code
            assert (asked, caller.post("/withdrawals", json=drill).status_code) == statuses
            assert caller.get("/withdrawals/w0000000000000000").status_code == statuses[1]
    bad = server.http.get("/api/ecotone/v1/lineage/withdrawals/..%2F..%2Fsecrets")
    assert bad.status_code == 404
    assert json.loads(server.http.get("/api/ecotone/v1/lineage/family?model=no/where").text)["error"]


def test_a_file_that_somebody_else_signed_or_that_readers_read_differently_is_no_drill(
    server: Running, tmp_path: Path
) -> None:
    server.publish("e/gone", {"README.md": CARD.format("").encode()})
    file = tmp_path / "drill.json"
    made = server.told("lineage", "withdrawal", "e/gone", "--write", str(file))
    HfApi(endpoint=server.url, token=ADMIN).delete_repo("e/gone")
    assert server.cli("lineage", "withdrawal-verify", str(file)).returncode == 0
    twice = file.read_text().replace('"model": ', '"model": "e/other", "model": ', 1)
    file.write_text(twice)
    ambiguous = server.cli("lineage", "withdrawal-verify", str(file), "--signature-only")
    assert ambiguous.returncode != 0 and "twice" in ambiguous.stderr
    other = {name: value for name, value in made.items() if name != "proof"} | {"model": "a/base"}
    file.write_text(json.dumps(other | {"proof": msgspec.to_builtins(proof_of(other, b"7" * 32))}))
    forged = server.cli("lineage", "withdrawal-verify", str(file))
    assert forged.returncode == 4 and "not what the server keeps" in forged.stderr


def test_a_drill_does_not_replace_a_file_that_nobody_said_to_replace(server: Running, tmp_path: Path) -> None:
    file = tmp_path / "drill.json"
    file.write_text("the last drill")
    drills = server.told("lineage", "withdrawals")
    kept = server.cli("lineage", "withdrawal", "a/base", "--write", str(file))
    assert kept.returncode == 1 and "--force" in kept.stderr and file.read_text() == "the last drill"
    away = server.cli("lineage", "withdrawal", "a/base", "--write", str(tmp_path / "none" / "drill.json"))
    assert away.returncode == 1 and "there is no folder" in away.stderr and "Traceback" not in away.stderr
    assert server.told("lineage", "withdrawals") == drills, "a drill was made that is written nowhere"
    made = server.told("lineage", "withdrawal", "a/base", "--write", str(file), "--force")
    assert json.loads(file.read_text()) == made
    file.write_text("the check-off")
    left = server.cli("lineage", "withdrawal-verify", made["id"], "--write", str(file))
    assert left.returncode == 1 and file.read_text() == "the check-off"
