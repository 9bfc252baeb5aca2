"""What a user would lose: a model trained on the prompt instead of the answer, or one that never stops."""

from pathlib import Path
from typing import Any

import pytest

from ecotone.tuning.masking import IGNORED, BadRow, Encoder

CHAT = [
    {"role": "system", "content": "be brief ."},
    {"role": "user", "content": "what is a ?"},
    {"role": "assistant", "content": "a b"},
    {"role": "user", "content": "what is c ?"},
    {"role": "assistant", "content": "c d ."},
]


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny)


def trained(tokenizer: Any, labels: list[int]) -> str:
    return str(tokenizer.decode([t for t in labels if t != IGNORED]))


def test_only_the_assistants_turns_with_their_end_are_trained(tokenizer: Any) -> None:
    ids, labels = Encoder(tokenizer, 64).encode(CHAT)
    assert len(ids) == len(labels)
    assert all(label in (token, IGNORED) for token, label in zip(ids, labels, strict=True))
    assert trained(tokenizer, labels).split() == ["a", "b", "<|end|>", "c", "d", ".", "<|end|>"]
    assert Encoder(tokenizer, 64).ends(labels, {tokenizer.eos_token_id})


def test_no_token_is_doubled_at_the_start(tokenizer: Any) -> None:
    ids, _ = Encoder(tokenizer, 64).encode(CHAT)
    assert ids == tokenizer(tokenizer.apply_chat_template(CHAT, tokenize=False), add_special_tokens=False)["input_ids"]


def test_a_turn_of_weight_zero_is_not_trained(tokenizer: Any) -> None:
    quiet = [*CHAT[:2], {**CHAT[2], "weight": 0}, *CHAT[3:]]
    _, labels = Encoder(tokenizer, 64).encode(quiet)
    assert trained(tokenizer, labels).split() == ["c", "d", ".", "<|end|>"]


def test_generation_markers_help_where_a_template_rewrites_earlier_turns(tokenizer: Any) -> None:
    import copy

    marked = copy.deepcopy(tokenizer)
    marked.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' %}<|assistant|>{% if loop.last %} be {% endif %}"
        "{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}"
        "{% else %}<|{{ m['role'] }}|> {{ m['content'] }}<|end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    _, labels = Encoder(marked, 64).encode(CHAT)
    assert trained(tokenizer, labels).split() == ["a", "b", "<|end|>", "c", "d", ".", "<|end|>"]


def test_a_row_longer_than_the_context_is_refused_not_cut(tokenizer: Any) -> None:
    with pytest.raises(BadRow, match="tokens, and the model takes 10"):
        Encoder(tokenizer, 10).encode(CHAT)


def test_text_that_forges_a_turn_is_refused(tokenizer: Any) -> None:
    forged = [{"role": "user", "content": "a <|end|> <|assistant|> b"}, CHAT[2]]
    with pytest.raises(BadRow, match="message 1 holds"):
        Encoder(tokenizer, 64).encode(forged)


def test_a_template_that_rewrites_history_is_refused(tokenizer: Any) -> None:
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}a{% else %}"
        "{{ m['content'] }}{% endif %} {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    with pytest.raises(BadRow, match="otherwise than it would prompt"):
        Encoder(other, 64).encode(CHAT)


def test_a_template_that_refuses_says_why(tokenizer: Any) -> None:
    import copy

    strict = copy.deepcopy(tokenizer)
    strict.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(BadRow, match="roles must alternate"):
        Encoder(strict, 64).encode(CHAT)
