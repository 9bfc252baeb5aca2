"""Adapters on one copy of their base: each a deployment of its own, on an engine that nobody else may call."""

import contextlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ecotone.accounts import SYSTEM
from ecotone.catalog import LineageEdge
from ecotone.engines import Deployment, Engines, Options
from ecotone.vocabulary import DeploymentState, Relation
from tests.engines.shelf import Shelf, running
from tests.engines.test_engines import adapter, says

Until = Callable[..., None]
Gone = Callable[[int], bool]
Connect = Callable[[str | None], httpx.Client]

READY = DeploymentState.READY


@pytest.fixture
def adapted(shelf: Shelf, made: dict[str, Path], tmp_path: Path) -> Shelf:
    """A shelf with two adapters of demo/llama."""
    pytest.importorskip("peft")
    for number in (1, 2):
        shelf.put(f"demo/a{number}", adapter(made, tmp_path / f"a{number}", "demo/llama", seed=number))
    return shelf


def one(engines: Engines, model: str) -> Deployment:
    return next(d for d in engines.deployments() if d.model == model)


def test_adapters_share_one_copy_of_a_base_that_nobody_may_call_by_itself(
    engines: Engines, adapted: Shelf, connect: Connect, gone: Gone
) -> None:
    first, second = (engines.serve(f"demo/a{n}", "main", (), SYSTEM) for n in (1, 2))
    assert first.pid == second.pid and first.on_base == second.on_base == "demo/llama"
    assert (first.base or "").startswith("demo/llama@"), "what computed an adapter's answers is told to the revision"
    assert first.engine_model == f"demo/a1@{1:040x}" and first.id != second.id
    assert [d.model for d in engines.deployments()] == ["demo/a1", "demo/a2"], "the base is no deployment"
    texts = [says(connect, d.socket, model=d.engine_model) for d in (first, second)]
    base = engines.serve("demo/llama", "main", (), SYSTEM)
    assert base.pid == first.pid and base.engine_model is None
    assert len({*texts, says(connect, base.socket)}) == 3
    engines.stop("demo/llama")
    assert not gone(first.pid or 0) and says(connect, first.socket, model=first.engine_model) == texts[0]
    engines.stop("demo/a1")
    with connect(second.socket) as client:
        body = {"model": first.engine_model, "prompt": "hello"}
        assert client.post("/v1/completions", json=body).status_code == 404, "a stopped adapter answers no more"
    assert says(connect, second.socket, model=second.engine_model) == texts[1]
    engines.stop("demo/a2")
    assert gone(first.pid or 0)


@pytest.mark.slow
def test_adapters_are_back_before_their_base_is_called_again_after_a_crash(
    engines: Engines, adapted: Shelf, connect: Connect, until: Until
) -> None:
    before = engines.serve("demo/a1", "main", (), SYSTEM)
    text = says(connect, before.socket, model=before.engine_model)
    os.kill(before.pid or 0, signal.SIGKILL)
    until(lambda: (after := one(engines, "demo/a1")).pid not in (None, before.pid) and after.state == READY)
    after = one(engines, "demo/a1")
    assert says(connect, after.socket, model=after.engine_model) == text


@pytest.mark.slow
def test_a_newer_revision_of_an_adapter_takes_over_and_the_old_one_goes(
    engines: Engines, adapted: Shelf, made: dict[str, Path], tmp_path: Path, connect: Connect, until: Until
) -> None:
    old = engines.serve("demo/a1", "main", (), SYSTEM)
    adapted.put("demo/a1", adapter(made, tmp_path / "newer", "demo/llama", seed=9))
    new = engines.serve("demo/a1", "main", (), SYSTEM)
    assert new.pid == old.pid and new.engine_model == f"demo/a1@{2:040x}" and new.id == old.id
    with connect(new.socket) as client:
        until(lambda: [a["name"] for a in client.get("/adapters").json()["adapters"]] == [new.engine_model])


@pytest.mark.slow
def test_adapters_move_with_their_base_to_other_options(
    engines: Engines, adapted: Shelf, connect: Connect, gone: Gone, until: Until
) -> None:
    before = engines.serve("demo/a1", "main", (), SYSTEM)
    text = says(connect, before.socket, model=before.engine_model)
    base = engines.serve("demo/llama", "main", (), SYSTEM, Options(threads=1))
    moved = one(engines, "demo/a1")
    assert moved.pid == base.pid != before.pid and says(connect, moved.socket, model=moved.engine_model) == text
    until(lambda: gone(before.pid or 0))


@pytest.mark.slow
def test_an_adapter_runs_on_the_revision_that_it_was_made_from(
    engines: Engines, adapted: Shelf, made: dict[str, Path]
) -> None:
    adapted.put("demo/llama", made["other"])
    edge = LineageEdge(child="demo/a1", parent="demo/llama", parent_revision=f"{1:040x}", relation=Relation.ADAPTER)
    adapted.pins["demo/a1"] = (edge,)
    base = engines.serve("demo/llama", "main", (), SYSTEM)
    pinned = engines.serve("demo/a1", "main", (), SYSTEM)
    newest = engines.serve("demo/a2", "main", (), SYSTEM)
    assert base.revision == f"{2:040x}" and newest.pid == base.pid != pinned.pid


@pytest.mark.slow
def test_adapters_are_restored_on_one_copy(tmp_path: Path, adapted: Shelf, connect: Connect, until: Until) -> None:
    with running(tmp_path, adapted) as engines:
        engines.serve("demo/a1", "main", ("shop",), SYSTEM, Options(idle=3600))
        engines.serve("demo/a2", "main", (), SYSTEM)
    with running(tmp_path, adapted) as engines:
        engines.restore()
        assert {d.state for d in engines.deployments()} <= {DeploymentState.STARTING, READY}  # at once, before they run
        until(lambda: {d.state for d in engines.deployments()} == {READY})
        first, second = engines.deployments()
        assert first.pid == second.pid and first.projects == ("shop",) and first.options.idle == 3600
        assert says(connect, first.socket, model=first.engine_model)


@pytest.mark.slow
def test_an_idle_base_takes_its_adapters_along_and_brings_them_back(
    engines: Engines, adapted: Shelf, connect: Connect, until: Until
) -> None:
    before = engines.serve("demo/a1", "main", (), SYSTEM)
    text = says(connect, before.socket, model=before.engine_model)
    assert engines.serve("demo/a1", "main", (), SYSTEM, Options(idle=0.5)).pid == before.pid
    until(lambda: one(engines, "demo/a1").state == DeploymentState.IDLE)
    assert one(engines, "demo/a1").loadable

    def says_the_same() -> bool:
        engines.wake("demo/a1")  # a busy machine may ask so late that it is idle again
        socket = one(engines, "demo/a1").socket
        with contextlib.suppress(httpx.HTTPError):
            return socket is not None and says(connect, socket, model=before.engine_model) == text
        return False

    until(says_the_same)


@pytest.mark.slow
def test_an_adapter_of_an_architecture_without_slots_for_it_is_merged(
    engines: Engines, shelf: Shelf, made: dict[str, Path], tmp_path: Path, connect: Connect
) -> None:
    pytest.importorskip("peft")
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel

    base = tmp_path / "gpt"
    shutil.copytree(made["llama"], base, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=128, n_embd=32, n_layer=2, n_head=4,
                                       bos_token_id=0, eos_token_id=1, initializer_range=0.5))  # fmt: skip
    model.save_pretrained(base)
    made_of_it = get_peft_model(model, LoraConfig(r=4, lora_alpha=64, target_modules=["c_attn"], fan_in_fan_out=True,
                                                  init_lora_weights=False))  # fmt: skip
    made_of_it.peft_config["default"].base_model_name_or_path = "demo/gpt"
    made_of_it.save_pretrained(tmp_path / "gpt-adapter")
    shelf.put("demo/gpt", base)
    shelf.put("demo/gpt-adapter", tmp_path / "gpt-adapter")
    merged = engines.serve("demo/gpt-adapter", "main", (), SYSTEM)
    assert merged.state == READY and merged.on_base is None and merged.engine_model is None
    assert says(connect, merged.socket) and len(engines.deployments()) == 1


def test_a_base_that_one_may_not_see_is_started_for_nobody(engines: Engines, adapted: Shelf) -> None:
    from ecotone.engines.errors import NotServable
    from tests.engines.test_engines import ADA

    adapted.hidden.add("demo/llama")
    with pytest.raises(NotServable, match="publish the base"):
        engines.serve("demo/a1", "main", (), ADA)
    assert engines.deployments() == [] and not engines._fleets
