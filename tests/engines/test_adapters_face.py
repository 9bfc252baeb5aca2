"""`/adapters` of a running engine: an adapter is answered under its own name at once, and its base goes on."""

import copy
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

Served = Callable[[str], httpx.Client]

NAME = "demo/adapter@0123456789012345678901234567890123456789"


@pytest.fixture(scope="module")
def folder(made: dict[str, Path], tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny LLaMA."""
    import torch
    import transformers
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    found = tmp_path_factory.mktemp("adapter")
    base = transformers.AutoModelForCausalLM.from_pretrained(made["llama"])
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(base, config).save_pretrained(found)
    return found


def write(client: httpx.Client, model: str, text: str = "hello", count: int = 12, **more: Any) -> httpx.Response:
    body = {"model": model, "prompt": text, "max_tokens": count, "temperature": 0, "ignore_eos": True}
    return client.post("/v1/completions", json={k: v for k, v in (body | more).items() if v is not None})


def text_of(answer: httpx.Response) -> str:
    found: str = answer.json()["choices"][0]["text"]
    return found


def merged(base: Path, folder: Path, text: str, count: int) -> str:
    import torch
    import transformers
    from peft import PeftModel

    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    model = PeftModel.from_pretrained(copy.deepcopy(model), folder).merge_and_unload().eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    out = model.generate(ids, max_new_tokens=count, do_sample=False, attention_mask=torch.ones_like(ids))
    written: str = tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    return written


def test_an_adapter_comes_is_answered_and_goes(served: Served, made: dict[str, Path], folder: Path) -> None:
    client = served("llama")
    before = text_of(write(client, "demo/llama"))
    assert write(client, NAME).status_code == 404
    added = client.post("/adapters", json={"name": NAME, "folder": str(folder)})
    assert (added.status_code, added.json()) == (200, {"name": NAME, "rank": 4, "running": 0})
    assert client.get("/adapters").json() == {"adapters": [{"name": NAME, "rank": 4, "running": 0}]}
    answers: dict[str, list[str]] = {NAME: [], "demo/llama": []}

    def ask(model: str) -> None:
        answers[model].append(text_of(write(client, model)))

    asking = [threading.Thread(target=ask, args=(model,)) for model in list(answers) * 3]
    for one in asking:
        one.start()
    for one in asking:
        one.join()
    wanted = merged(made["llama"], folder, "hello", 12)
    assert answers == {NAME: [wanted] * 3, "demo/llama": [before] * 3}
    assert wanted != before
    removed = client.request("DELETE", "/adapters", json={"name": NAME})
    assert (removed.status_code, removed.json()["running"]) == (200, 0)
    assert client.get("/adapters").json() == {"adapters": []}
    gone = write(client, NAME)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "model_not_found")
    assert client.request("DELETE", "/adapters", json={"name": NAME}).status_code == 404
    assert text_of(write(client, "demo/llama")) == before


def test_an_adapter_is_gone_only_when_its_last_answer_has_ended(served: Served, folder: Path) -> None:
    client = served("llama")
    assert client.post("/adapters", json={"name": NAME, "folder": str(folder)}).status_code == 200
    whole = text_of(write(client, NAME, count=110))
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(text_of(write(client, NAME, count=110))))
    asking.start()
    end = time.monotonic() + 90
    while not client.get("/adapters").json()["adapters"][0]["running"] and asking.is_alive():
        assert time.monotonic() < end
    removed = client.request("DELETE", "/adapters", json={"name": NAME})
    asking.join()
    assert (removed.status_code, removed.json()["running"]) == (200, 0)
    assert found == [whole]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": NAME, "folder": "/nowhere"}, "no adapter_config.json"),
        ({"name": NAME}, "folder"),
        ({"name": 7, "folder": "/nowhere"}, "name"),
    ],
)
def test_a_bad_adapter_is_refused_with_the_reason(body: dict[str, Any], said: str, served: Served) -> None:
    refused = served("llama").post("/adapters", json=body)
    assert refused.status_code == 400
    assert said in refused.json()["error"]["message"]
    assert served("llama").get("/adapters").json() == {"adapters": []}
