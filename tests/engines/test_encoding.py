"""What encoders compute is what transformers computes, in any company and of any length."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")

import numpy
import torch
import transformers

from ecotone.engines.server.encoding.computing import Padded, Unpadded
from ecotone.engines.server.encoding.texts import Head, Text
from ecotone.engines.server.encoding.turns import Job, Turns
from ecotone.engines.server.errors import RequestError, Unloadable
from ecotone.engines.server.folders import plan
from ecotone.engines.server.loading import load
from ecotone.engines.server.pooling import Pooling
from tests.engines import tiny_encoders

HEADS = {
    "ForMaskedLM": Head.MASKS,
    "ForSequenceClassification": Head.LABELS,
    "ForTokenClassification": Head.TOKEN_LABELS,
    "ForQuestionAnswering": Head.SPANS,
}
LENGTHS = (1, 512, 7, 7, 40, 2, 1, 300, 40)


def texts_of(head: Head, words: int, *, types: bool) -> list[Text]:
    generator = numpy.random.default_rng(1)
    found = []
    for length in LENGTHS:
        ids = generator.integers(5, words, length).tolist()
        kinds = [0] * (length // 2) + [1] * (length - length // 2) if types and length % 2 else None
        found.append(Text(ids, head, kinds, places=(0, length - 1)))
    return found


def direct(model: Any, text: Text) -> Any:
    """The text alone, by the model's own forward."""
    more = {} if text.types is None else {"token_type_ids": torch.tensor([text.types])}
    with torch.inference_mode():
        ids = torch.tensor([text.ids])
        if text.head == Head.VECTOR:
            return model.base_model(ids, attention_mask=torch.ones_like(ids), **more).last_hidden_state[0].mean(dim=0)
        out = model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)
    if text.head == Head.SPANS:
        return torch.stack([out.start_logits[0], out.end_logits[0]], dim=-1)
    return out.logits[0][list(text.places)] if text.head == Head.MASKS else out.logits[0]


def check(folder: Path, compute: Any, model: Any, head: Head, *, types: bool) -> None:
    own = getattr(transformers, type(model).__name__).from_pretrained(folder).eval()
    for wanted_head in (head, Head.VECTOR):
        texts = texts_of(wanted_head, own.config.vocab_size, types=types)
        with torch.inference_mode():
            found = compute(texts)
        for text, one in zip(texts, found, strict=True):
            wanted = direct(own, text).numpy()
            assert one.shape == wanted.shape and one.dtype == numpy.float32
            assert numpy.abs(one - wanted).max() < 1e-4


@pytest.mark.parametrize("end", HEADS)
@pytest.mark.parametrize("family", ["Bert", "Roberta", "DistilBert"])
def test_packed_texts_have_transformers_numbers(family: str, end: str, tmp_path: Path) -> None:
    folder = tiny_encoders.make(tmp_path, f"{family}{end}", positions=512)
    loaded = load(plan(folder), {"threads": 1})
    assert Unpadded.fits(loaded.model) and type(loaded.model).__name__ == f"{family}{end}"
    compute = Unpadded(loaded.model, Pooling(("mean",), False, ""))
    check(folder, compute, loaded.model, HEADS[end], types=family == "Bert")


@pytest.mark.parametrize("kind", ["MPNetForMaskedLM", "ElectraForTokenClassification"])
def test_other_encoders_are_computed_by_their_own_forward(kind: str, tmp_path: Path) -> None:
    folder = tiny_encoders.make(tmp_path, kind, positions=512)
    loaded = load(plan(folder), {"threads": 1})
    assert not Unpadded.fits(loaded.model)
    compute = Padded(loaded.model, Pooling(("mean",), False, ""), 0)
    check(folder, compute, loaded.model, HEADS["For" + kind.partition("For")[2]], types=False)


def test_packing_holds_the_weights_once(tmp_path: Path) -> None:
    folder = tiny_encoders.make(tmp_path, "BertForMaskedLM")
    model = load(plan(folder), {"threads": 1}).model
    Unpadded(model, Pooling(("mean",), False, ""))
    layer = model.base_model.encoder.layer[0]
    assert layer.attention.self.query.weight is None and layer.intermediate.dense.weight is None


def test_each_pooling_of_packed_texts_is_that_of_padded_ones() -> None:
    vectors = torch.tensor([[[1.0, 4.0], [3.0, -2.0], [99.0, 99.0]], [[5.0, 1.0], [-2.0, 2.0], [-7.0, -3.0]]])
    mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
    packed = torch.cat([vectors[0, :2], vectors[1]])
    for kind in ("cls", "max", "mean", "mean_sqrt_len", "weightedmean", "lasttoken"):
        pooling = Pooling((kind, "mean"), True, "")
        assert torch.allclose(pooling.packed(packed, [2, 3]), pooling(vectors, mask)), kind


@pytest.mark.parametrize(
    ("options", "said"), [({"threads": 0}, "threads"), ({"device": "tpu"}, "device"), ({"dtype": "int3"}, "dtype")]
)
def test_an_option_without_sense_is_refused_by_name(options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(Unloadable, match=said):
        load(plan(tiny_encoders.make(tmp_path, "BertForMaskedLM")), options)


class Slow:
    """Computes at a pace that a test can see, and keeps what each batch held."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()

    def __call__(self, texts: Sequence[Text]) -> list[Any]:
        self.go.wait(60)
        self.batches.append([text.ids[0] for text in texts])
        if any(text.ids[0] == 13 for text in texts):
            raise ValueError("unlucky")
        return [numpy.array(text.ids) for text in texts]


def finished(jobs: list[Job], count: int) -> None:
    end = time.monotonic() + 60
    while len(jobs) < count:
        assert time.monotonic() < end, "the texts were not computed"
        time.sleep(0.005)


def job(*first: int, length: int = 10) -> Job:
    return Job([Text([one] * length, Head.VECTOR) for one in first])


def test_a_large_request_delays_a_small_one_by_a_batch_only() -> None:
    slow, told = Slow(), list[Job]()
    turns = Turns(slow, 20, told.extend)
    large, small = job(*([1] * 20)), job(2)
    turns.begin(large)
    turns.begin(small)
    slow.go.set()
    finished(told, 2)
    assert told == [small, large] and [2, 1] in slow.batches[:2] + [batch[::-1] for batch in slow.batches[:2]]
    assert all(len(batch) <= 2 for batch in slow.batches)


def test_a_text_that_fails_fails_alone() -> None:
    slow, told = Slow(), list[Job]()
    turns = Turns(slow, 1000, told.extend)
    jobs = [job(1), job(13), job(2, 13), job(3)]
    for one in jobs:
        turns.begin(one)
    slow.go.set()
    finished(told, 4)
    assert [one.error is not None for one in jobs] == [False, True, True, False]
    assert jobs[1].error is not None and jobs[1].error.status == 500 and jobs[3].results[0][0] == 3


def test_the_texts_of_a_client_that_left_are_not_computed() -> None:
    slow, told = Slow(), list[Job]()
    turns = Turns(slow, 10, told.extend)
    first, left, last = job(1), job(2, 2, 2), job(3)
    for one in (first, left, last):
        turns.begin(one)
    left.cancelled = True
    slow.go.set()
    finished(told, 2)
    assert told == [first, last] and sum(batch.count(2) for batch in slow.batches) <= 1


def test_a_request_without_texts_or_a_listener_that_fails_ends_no_engine() -> None:
    told: list[Job] = []

    def tell(jobs: list[Job]) -> None:
        if any(job.owner == "broken" for job in jobs):
            raise ValueError("nobody listens")
        told.extend(jobs)

    turns = Turns(lambda texts: [numpy.zeros(1) for _ in texts], 10, tell)
    with pytest.raises(RequestError, match="at least one"):
        turns.begin(Job([]))
    bad = job(1)
    bad.owner = "broken"
    turns.begin(bad)
    turns.begin(job(2))
    finished(told, 1)
    assert turns.health()["ok"]


def test_memory_that_ends_is_told_as_such() -> None:
    told: list[Job] = []

    def compute(_: Any) -> Any:
        raise MemoryError

    Turns(compute, 10, told.extend).begin(job(1))
    finished(told, 1)
    assert told[0].error is not None and (told[0].error.status, told[0].error.code) == (503, "out_of_memory")


def test_a_queue_that_is_full_says_so() -> None:
    slow = Slow()
    turns = Turns(slow, 10, lambda _: None)
    with pytest.raises(RequestError, match="wait already") as refused:
        for _ in range(2000):
            turns.begin(job(1))
    assert refused.value.status == 429
    slow.go.set()


def test_a_text_longer_than_the_budget_is_a_batch_of_its_own(tiny: ModuleType) -> None:
    slow, told = Slow(), list[Job]()
    turns = Turns(slow, 4, told.extend)
    slow.go.set()
    turns.begin(job(1, 2))
    finished(told, 1)
    assert [len(batch) for batch in slow.batches] == [1, 1]
