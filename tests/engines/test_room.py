"""Memory shared by models of different owners: who asks for too much takes nothing from others, nor learns of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ecotone.accounts import SYSTEM
from ecotone.engines import Deployment, Options
from ecotone.engines.memory import Claim, Memory
from ecotone.settings import Settings
from ecotone.vocabulary import DeploymentState
from tests.engines.shelf import Shelf, running


def test_want_of_memory_names_no_model_of_others() -> None:
    memory = Memory(1000 << 20)
    for owner, model in enumerate(("hidden/takeover-target", "hidden/payroll", "demo/open")):
        assert memory.claim(Claim(model, 250 << 20, lambda: None, owner))
    kept = {0: "pinned", 1: "pinned", 2: "in use"}
    told = memory.refusal(Claim("demo/big", 300 << 20, lambda: None, 3), kept).message
    assert "demo/big needs about 300 MiB of memory, and 250 MiB of 1000 MiB are free" in told
    assert "other engines have 500 MiB pinned, 250 MiB in use" in told and "ECOTONE_ENGINE_MEMORY" in told
    assert "hidden" not in told and "demo/open" not in told


@pytest.mark.slow
def test_a_call_of_a_model_that_never_fits_unloads_nobody(
    tmp_path: Path, shelf: Shelf, made: dict[str, Path], until: Callable[..., None]
) -> None:
    large = tmp_path / "large"
    large.mkdir()
    for file in made["llama"].iterdir():
        (large / file.name).symlink_to(file)
    with open(large / "more.safetensors", "wb") as more:
        more.truncate(40 << 20)
    shelf.put("demo/large", large)
    with running(tmp_path, shelf, settings=Settings(data=tmp_path, engine_memory=480 << 20)) as engines:

        def one(model: str) -> Deployment:
            return next(d for d in engines.deployments() if d.model == model)

        pid = engines.serve("demo/llama", "main", (), SYSTEM, Options(idle=3600)).pid
        engines.serve("demo/large", "main", (), SYSTEM, Options(on_demand=True))
        # until the other one has been idle for long enough to be unloaded
        until(lambda: one("demo/llama").memory and (one("demo/llama").idle_left or 0) < 3598)
        for _ in range(2):
            engines.wake("demo/large")
            until(lambda: one("demo/large").error)
        assert (one("demo/llama").state, one("demo/llama").pid) == (DeploymentState.READY, pid)
