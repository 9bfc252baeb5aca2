"""What a card's word does not get out of the hub: whether there is a private model of the name that it names."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
from huggingface_hub import HfApi

from ecotone.api import PREFIX
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
