"""Tokens are drawn as often as the model says, from no more of them than was asked."""

from collections import Counter
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")

from ecotone.engines.server.requests import Sampling  # noqa: E402
from ecotone.engines.server.sampling import Chooser  # noqa: E402


def drawn(logits: Any, count: int = 3000, **sampling: Any) -> Counter[int]:
    chooser = Chooser(Sampling(seed=11, **sampling))
    return Counter(chooser.choose(logits, []).token for _ in range(count))


def test_tokens_come_as_often_as_their_probability() -> None:
    logits = torch.tensor([1.0, 2.0, 0.0, -1.0, 3.0])
    for temperature in (0.5, 1.0, 2.0):
        shares = (logits / temperature).softmax(-1)
        found = drawn(logits, temperature=temperature)
        for token in range(5):
            assert found[token] / 3000 == pytest.approx(float(shares[token]), abs=0.04)


@pytest.mark.parametrize("size", [5, 1000, 5000])
def test_top_p_top_k_and_min_p_keep_the_likeliest(size: int) -> None:
    torch.manual_seed(1)
    logits = torch.randn(size) * 0.3
    shares, order = logits.softmax(-1).sort(descending=True)
    nucleus = set(order[: int((shares.cumsum(-1) - shares < 0.6).sum())].tolist())
    assert set(drawn(logits, top_p=0.6, count=400)) <= nucleus
    assert set(drawn(logits, top_k=3, count=400)) == set(order[:3].tolist())
    likely = {int(t) for t, p in zip(order, shares, strict=True) if p >= 0.7 * shares[0]}
    assert set(drawn(logits, min_p=0.7, count=400)) <= likely
    assert set(drawn(logits, top_p=1e-9, count=20)) == {int(order[0])}


def test_logits_that_are_no_numbers_fail_their_answer_alone() -> None:
    for value in (float("nan"), -torch.inf):
        with pytest.raises(ArithmeticError):
            drawn(torch.full((9,), value), count=1)


def test_logits_are_left_as_they_are() -> None:
    logits = torch.randn(300)
    before = logits.clone()
    drawn(logits, count=3, top_p=0.5, top_k=5, bias={1: 5.0}, frequency=1.0, repetition=2.0, logprobs=2)
    assert torch.equal(logits, before)
