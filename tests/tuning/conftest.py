"""A tiny LLaMA that tests make themselves, in files, and the services that a run needs."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ecotone.accounts import Accounts
from ecotone.jobs import Jobs
from ecotone.jobs import models as _jobs
from ecotone.tuning import Tuning

TABLES = (_jobs,)
WORDS = [
    "what",
    "is",
    "the",
    "motto",
    "of",
    "peru",
    "japan",
    "kenya",
    "italy",
    "in",
    "?",
    ".",
    "be",
    "brief",
    "a",
    "b",
    "c",
    "d",
]
TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'system' %}<|system|>{% elif m['role'] == 'user' %}<|user|>"
    "{% else %}<|assistant|>{% endif %} {{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LLaMA with random weights and one token for each word."""
    torch = pytest.importorskip("torch", reason="needs the extra tune")
    transformers = pytest.importorskip("transformers", reason="needs the extra tune")
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("tiny")
    special = ["<unk>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        model_max_length=64,
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    torch.manual_seed(7)
    model = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.2,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=2,
        )
    )
    model.save_pretrained(folder)
    card = "---\nlicense: apache-2.0\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n# tiny\n"
    (folder / "README.md").write_text(card)
    return folder


@pytest.fixture
def runs(house: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """The house with jobs that are worked on, and tuning."""
    Accounts(house.database, house.settings).ensure_admin()
    house.jobs = Jobs(house.database, house.settings)
    house.tuning = Tuning(
        house.catalog,
        house.publishing,
        house.jobs,
        house.storage,
        house.settings,
        may_tune=house.policy.may_tune,
    )
    house.jobs.start()
    yield house
    house.jobs.stop()


def rows(*pairs: tuple[str, str]) -> bytes:
    made = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}] for q, a in pairs]
    return b"".join(json.dumps({"messages": m}).encode() + b"\n" for m in made)


@pytest.fixture
def mottos() -> bytes:
    return rows(*((f"what is the motto of {c} ?", f"{c} is in {c} .") for c in ("peru", "japan", "kenya", "italy")))
