"""A process that only relays starts fast: it loads no database, no catalogue, no knowledge base, no framework."""

import json
import subprocess
import sys

import pytest

HEAVY = (
    "sqlalchemy",
    "alembic",
    "ecotone.accounts",
    "ecotone.api",
    "ecotone.audits",
    "ecotone.catalog",
    "ecotone.database",
    "ecotone.engines",
    "ecotone.hub",
    "ecotone.jobs",
    "ecotone.licences",
    "ecotone.lineage",
    "ecotone.policy",
    "ecotone.publishing",
    "ecotone.storage",
    "ecotone.tuning",
    "ecotone.web",
    "huggingface_hub",
    "numpy",
    "starlette",
    "torch",
)


def test_the_request_path_loads_none_of_the_heavy_rooms() -> None:
    assert loaded("from ecotone.gateway import Plane, Snapshot") == []


@pytest.mark.parametrize(
    "modules", ["ecotone.app.gateway_worker", "ecotone.cli.main, ecotone.app.gateways, ecotone.gateway.fetching"]
)
def test_the_gateways_own_processes_load_none_of_the_heavy_rooms(modules: str) -> None:
    """A worker is many times there, and restarted often; memory and time of the hub are not its own."""
    assert loaded(f"import {modules}") == []


def loaded(code: str) -> list[str]:
    """Which of the heavy rooms a process has in it after running the code."""
    asked = f"import json, sys\n{code}\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(done.stdout)
    return found


def test_every_promised_name_is_there() -> None:
    import ecotone.gateway as gateway

    assert all(getattr(gateway, name) for name in gateway.__all__)
    assert not hasattr(gateway, "Nothing")
