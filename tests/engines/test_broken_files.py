"""A model whose files are broken is refused with the reason; a machine without memory is told as such."""

import asyncio
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

Break = Callable[[Path], Any]


def weights(change: Callable[[bytes], bytes]) -> Break:
    def act(folder: Path) -> None:
        path = folder / "model.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return act


def says(name: str, **more: Any) -> Break:
    def act(folder: Path) -> None:
        path = folder / name
        told = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps(told | more))

    return act


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (weights(lambda raw: raw[:-1000]), "not fully covered"),
        (weights(lambda raw: raw + b"x" * 100), "not fully covered"),
        (weights(lambda _: b""), "header too small"),
        (weights(lambda raw: b"\x80\x04cposix\nsystem\n" + raw), "header"),
        (weights(lambda raw: raw.replace(b'"F32"', b'"I32"')), "weight as I32.*save the model as float32"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer cannot be loaded"),
        (says("config.json", model_type="zebra", architectures=["ZebraForCausalLM"]), "zebra"),
        (says("config.json", vocab_size=10**12), "cannot be loaded"),
        (says("config.json", num_attention_heads=0), "ZeroDivisionError"),
        (says("generation_config.json", top_k="many"), "makes no sense.*many"),
        (says("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}, tokenizer_class="T"), "code"),
    ],
)
def test_a_broken_model_is_refused_with_the_reason(
    broken: Break, said: str, made: dict[str, Path], tiny: ModuleType, tmp_path: Path
) -> None:
    from ecotone.engines.server.errors import Unloadable
    from ecotone.engines.server.folders import plan
    from ecotone.engines.server.opening import opened

    folder = tmp_path / "model"
    shutil.copytree(made["llama"], folder)
    mark = tmp_path / "ran"
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass T: pass\n")
    broken(folder)
    with pytest.raises(Unloadable, match=said):
        opened(plan(folder), {"threads": 1})
    assert not mark.exists()


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (MemoryError(), 503, "out_of_memory"),
        (RuntimeError("can't start new thread"), 503, "out_of_memory"),
        (KeyError("of our own"), 500, "engine_error"),
    ],
)
def test_memory_that_ends_before_anything_is_computed_is_told_in_openais_shape(
    error: Exception, status: int, code: str, made: dict[str, Path], tiny: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ecotone.engines.server.folders import plan
    from ecotone.engines.server.opening import application, opened

    planned = plan(made["llama"])
    engine = opened(planned, {"threads": 1})

    def fails(_: Any) -> Any:
        raise error

    monkeypatch.setattr(engine, "prepare", fails)
    app = application(engine, planned, {"model": "demo/llama", "revision": "r"})

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            return await client.post("/v1/completions", json={"model": "demo/llama", "prompt": "a"})

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert "of our own" not in answer.text
