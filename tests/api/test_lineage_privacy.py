"""What a card's word does not get out of the hub: whether there is a private model of the name that it names."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi

from ecotone.accounts import ANONYMOUS, SYSTEM
from ecotone.api import PREFIX
from ecotone.api.lineage import _failed
from ecotone.catalog import UNTOLD
from tests.publishing.weights import Weights, card, fresh, packed, tuned
from tests.running import ADMIN, running


def test_a_card_that_names_a_private_base_reads_like_one_that_names_none(tmp_path: Path) -> None:
    base = fresh(1)
    with running(tmp_path) as server:
        api = HfApi(endpoint=server.url, token=ADMIN)
        api.create_repo("secret/source", private=True)

        def publish(name: str, weights: Weights, **fields: Any) -> None:
            text = card("cc-by-nc-4.0", **fields)
            server.publish(name, {"README.md": text, "model.safetensors": packed(weights)})

        publish("secret/source", base)
        publish("demo/real", tuned(base, 7), base_model="secret/source")
        publish("demo/none", tuned(fresh(2), 7), base_model="secret/absent")

        def outside(name: str, parent: str) -> Any:
            answer = httpx.get(f"{server.url}{PREFIX}/models/{name}/lineage")
            told = json.loads(answer.text.replace(name, "NAME").replace(parent, "PARENT"))
            for edge in told["edges"]:
                del edge["child_revision"]
            return told

        found, absent = outside("demo/real", "secret/source"), outside("demo/none", "secret/absent")
        for field in ("edges", "badge", "alarms"):
            assert found[field] == absent[field], field
        for candidate in (*found["candidates"], *absent["candidates"]):
            assert not candidate["declared"] and candidate["model"] != UNTOLD
        inside = server.http.get(f"{PREFIX}/models/demo/real/lineage").json()
        assert inside["badge"] == "verified" and "mean cosine" in inside["edges"][0]["evidence"]


def test_no_page_or_document_says_what_a_private_base_is_called_or_how_like_it_the_weights_are(tmp_path: Path) -> None:
    base = fresh(1)
    with running(tmp_path) as server:
        api = HfApi(endpoint=server.url, token=ADMIN)
        api.create_repo("secret/source", private=True)
        server.publish("secret/source", {"README.md": card("mit"), "model.safetensors": packed(base)})

        def outside(path: str) -> httpx.Response:
            return httpx.get(server.url + path)

        server.publish("demo/silent", {"README.md": card("mit"), "model.safetensors": packed(tuned(base, 7))})
        inside = server.http.get(f"{PREFIX}/lineage/family?model=secret/source").json()
        assert [m["id"] for m in inside["members"]] == ["secret/source", "demo/silent"]
        for path in ("/secret/source/family", f"{PREFIX}/lineage/family?model=secret/source"):
            absent = outside(path.replace("source", "absent"))
            assert outside(path).status_code == absent.status_code == 404, path

        text = card("mit", base_model="secret/source")
        server.publish("demo/real", {"README.md": text, "model.safetensors": packed(tuned(base, 9))})
        server.publish("demo/claim", {"README.md": text, "model.safetensors": packed(fresh(2))})
        tree = outside(f"{PREFIX}/lineage/family?model=secret/source").json()
        assert {e["child"]: e["status"] for e in tree["edges"]} == {"demo/real": "declared", "demo/claim": "declared"}
        for name in ("demo/real", "demo/claim"):
            page = outside(f"/{name}").text
            assert (
                "the card says so; no weights confirm it" in page and "cosine" not in page and "(verified)" not in page
            )
            assert outside(f"{PREFIX}/lineage/family?model={name}").json()["edges"][0]["status"] == "declared"
            assert '"verified"' not in outside(f"{PREFIX}/models/{name}/bom").text
        made = server.http.post(f"{PREFIX}/tokens", json={"user": "wanda", "role": "write"}).json()
        jobs = server.http.get(f"{PREFIX}/jobs").json()
        headers = {"authorization": f"Bearer {made['token']}"}
        ended = httpx.post(f"{server.url}{PREFIX}/jobs/{jobs[0]['id']}/cancel", headers=headers)
        assert jobs[0]["kind"] == "lineage" and ended.status_code == 403, ended.text
        seen = server.http.get("/demo/claim").text
        assert "the weights do not show it (mean cosine" in seen
        assert "descend from a private model" in outside("/demo/silent").text


def test_why_an_examination_failed_is_told_to_users_alone() -> None:
    report = {"failed": "The weights of secret/source could not be read: killed. The end of its log: /srv/data/..."}
    assert _failed(report, SYSTEM) == report["failed"] and _failed({}, ANONYMOUS) is None
    assert _failed(report, ANONYMOUS) == "The weights could not be examined."


def test_a_parent_that_is_forbidden_looks_everywhere_like_one_that_is_absent(tmp_path: Path) -> None:
    """Page, API, command line, duties and bill, from below and by the parent's own name."""
    with running(tmp_path, ECOTONE_ANONYMOUS_READ="1") as server:
        HfApi(endpoint=server.url, token=ADMIN).create_repo("secret/source", private=True)
        server.publish("secret/source", {"README.md": card("gemma", base_model="google/gemma-2b"), "NOTICE": b"Ours\n"})
        for name, parent in (("demo/real", "secret/source"), ("demo/none", "secret/absent")):
            server.publish(name, {"README.md": card("gemma", base_model=parent)})

        def plain(text: str) -> str:
            text = text.replace("real", "none").replace("source", "absent").replace("%2F", "/")
            text = re.sub(r"\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+00:00)?|urn:uuid:[-0-9a-f]+|cookie[^ ]+", "WHEN", text)
            return re.sub(r"[0-9a-f]{40,}|[0-9a-f]{12}", "SHA", text)

        def seen(name: str, parent: str) -> dict[str, str]:
            paths = [
                f"/{name}",
                f"/{name}/family",
                f"/{parent}/family",
                f"{PREFIX}/lineage/family?model={name}",
                f"{PREFIX}/lineage/family?model={parent}",
                f"{PREFIX}/models/{name}",
                f"{PREFIX}/models/{name}/lineage",
                f"{PREFIX}/models/{name}/duties",
                f"{PREFIX}/models/{name}/bom?format=cyclonedx-1.7",
                f"{PREFIX}/models/{name}/bom?format=spdx-3",
                f"{PREFIX}/licence/judge?model={name}",
                f"/api/models/{name}",
            ]
            found = {}
            for path in paths:
                answer = httpx.get(server.url + path, timeout=60)
                found[plain(path)] = f"{answer.status_code} {plain(answer.text)}"
            said = server.cli("lineage", "family", name, env={"ECOTONE_TOKEN": ""})
            found["cli"] = plain(said.stdout + said.stderr)
            return found

        forbidden, absent = seen("demo/real", "secret/source"), seen("demo/none", "secret/absent")
        for path, text in absent.items():
            assert forbidden[path] == text, path
        assert "secret/absent" in absent["/demo/none/family"] and absent["/demo/none"].startswith("200")
        assert "secret/absent" in absent["cli"] and "gemma-2b" not in json.dumps(forbidden)
        inside = server.http.get(f"{PREFIX}/lineage/family?model=demo/real").json()
        assert any(m["name"] == "secret/source" and m["known"] for m in inside["members"]), "its own people lost it"
