"""An administrator's word on an edge with the real program: its commands, its pages, its ledger, and who may not."""

from pathlib import Path

import httpx

from ecotone.api import PREFIX
from ecotone.ledger import Ledger
from tests.publishing.weights import card, fresh, packed, tuned
from tests.running import running


def test_a_reversal_is_said_on_the_command_line_and_read_on_the_page(tmp_path: Path) -> None:
    base = fresh(1)
    with running(tmp_path) as server:
        for name, weights in (("demo/copy", tuned(base, 7)), ("demo/source", base)):
            files = {"README.md": card("cc-by-nc-4.0"), "model.safetensors": packed(weights)}
            server.publish(name, files)
        other = {"ECOTONE_TOKEN": server.told("token", "create", "eve", "--role", "admin")["token"]}
        reader = server.told("token", "create", "bob", "--role", "write")["token"]
        body = {"model": "demo/source", "parent": "demo/copy", "word": "rejected", "reason": "no"}
        for headers, status in (({}, 401), ({"authorization": f"Bearer {reader}"}, 403)):
            assert httpx.post(server.url + PREFIX + "/lineage/words", json=body, headers=headers).status_code == status
        why = ("--reason", "source was trained <here>")
        early = server.cli("lineage", "confirm", "demo/copy", "demo/source", *why)
        assert early.returncode != 0 and "ecotone lineage reject demo/source demo/copy" in early.stderr
        word = server.told("lineage", "reject", "demo/source", "demo/copy", *why)
        assert word["state"] == "waiting for approval"
        own = server.cli("lineage", "approve", word["id"])
        assert own.returncode != 0 and "another administrator" in own.stderr
        assert server.cli("lineage", "approve", word["id"], env=other).returncode == 0
        made = server.told("lineage", "confirm", "demo/copy", "demo/source", *why)
        assert (made["state"], made["relation"]) == ("in force", "finetune")
        told = "rejected by admin because source was trained &lt;here&gt; (approved by eve)"
        assert told in server.http.get("/demo/source/family").text
        page = server.http.get("/demo/copy/family").text
        assert "confirmed by admin because source was trained &lt;here&gt;" in page
        assert "rejected by admin because" in server.cli("lineage", "family", "demo/source").stdout
        shown = server.http.get(PREFIX + "/models/demo/source/lineage").json()
        assert shown["edges"][0]["said"]["word"] == "rejected" and shown["badge"] is None and not shown["alarms"]
        assert {w["word"] for w in server.told("lineage", "words")} == {"rejected", "confirmed"}
        server.publish("demo/source", {"README.md": card("mit")})
        impact = server.told("lineage", "impact", "demo/copy", "--licence", "mit")
        assert all(m["model"] != "demo/source" for m in impact["models"])
        bom = server.cli("lineage", "bom", "demo/source", "--format", "cyclonedx-1.7")
        assert bom.returncode == 0 and "demo/copy" not in bom.stdout
        assert server.told("lineage", "take-back", made["id"])["taken_back"]
        found = server.told("lineage", "fingerprint")  # nothing here is from before
        assert found["files"] == 0 and found["findings"] == []
        assert httpx.post(server.url + PREFIX + "/lineage/fingerprints").status_code == 401
        acts = {record.get("act") for record in Ledger(server.data / "ledger").records()}
        assert {
            "lineage.word_proposed",
            "lineage.word_approved",
            "lineage.word_said",
            "lineage.word_taken_back",
        } <= acts
