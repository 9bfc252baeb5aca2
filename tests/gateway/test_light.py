"""A process that only relays starts fast: it loads no database, no catalogue, no knowledge base, no framework."""

import subprocess
import sys

HEAVY = (
    "sqlalchemy",
    "ecotone.database",
    "ecotone.catalog",
    "ecotone.licences",
    "ecotone.policy",
    "starlette",
    "torch",
)


def test_the_request_path_loads_none_of_the_heavy_rooms() -> None:
    code = f"import sys\nfrom ecotone.gateway import Plane, Snapshot\nprint([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_promised_name_is_there() -> None:
    import ecotone.gateway as gateway

    assert all(getattr(gateway, name) for name in gateway.__all__)
    assert not hasattr(gateway, "Nothing")
