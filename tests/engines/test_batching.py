"""Many answers at once: each is what it would be alone, a place is free as soon as nobody waits, faults stay small."""

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from tests.receiver import until

QUESTIONS = [
    "What is the capital of France?",
    "On which continent is Peru?",
    "What is the currency of Japan?",
    "What is the capital of Kenya?",
    "What is the currency of Brazil?",
]


class Bench:
    """A writer over a stepper, and what came out of it."""

    def __init__(self, stepper: Any, decode: Callable[[Sequence[int]], str], ends: Sequence[int], **more: Any) -> None:
        from ecotone.engines.server.batching import Writer

        self.stepper = stepper
        self.writer = Writer(stepper, **more)
        self._decode = decode
        self._ends = frozenset(ends)

    def begin(
        self, prompt: Sequence[int], limit: int = 24, *, streams: bool = True, party: str = "", **sampling: Any
    ) -> "Heard":
        from ecotone.engines.server.generation import Answer
        from ecotone.engines.server.requests import Sampling
        from ecotone.engines.server.sampling import Chooser
        from ecotone.engines.server.text import TextStream

        asked = Sampling(**{"temperature": 0.0, **sampling})
        heard = Heard()
        heard.answer = Answer(
            prompt,
            limit=limit,
            chooser=Chooser(asked, None, self._ends, prompt=prompt),
            text=TextStream(self._decode, asked.stop),
            deliver=heard.take,
            streams=streams,
            party=party,
        )
        self.writer.begin([heard.answer])
        return heard


class Heard:
    """The pieces of one answer."""

    answer: Any

    def __init__(self) -> None:
        self.pieces: list[Any] = []
        self.began = threading.Event()
        self._done: Future[Any] = Future()

    def take(self, piece: Any) -> None:
        self.pieces.append(piece)
        self.began.set()
        if piece.last:
            self._done.set_result(piece)

    def end(self) -> Any:
        return self._done.result(120)

    def text(self) -> str:
        assert self.end().error is None, self.end().error
        return "".join(piece.text for piece in self.pieces)


def read(folder: Path) -> Any:
    from ecotone.engines.server.folders import plan
    from ecotone.engines.server.loading import load

    return load(plan(folder))


@pytest.fixture(scope="module")
def loaded(tiny: Any, made: dict[str, Path]) -> Any:
    """The tiny LLaMA as transformers loads it; steppers get copies of their own, which they may pack anew."""
    return read(made["llama"])


Make = Callable[..., Bench]


def held(release: threading.Event) -> Any:
    """A stepper that gives everyone a first token, and the next ones when it is let go."""
    from ecotone.engines.server.stepping.alone import Alone

    class Held(Alone):
        def step(self, rows: Sequence[Any], tokens: Sequence[int]) -> Any:
            release.wait(120)
            return super().step(rows, tokens)

    return Held


@pytest.fixture
def bench(tiny: Any, made: dict[str, Path]) -> Iterator[Make]:
    from ecotone.engines.server.stepping.choosing import stepper_for

    def make(stepper: Any = None, slots: int = 8, of: Any = None, **more: Any) -> Bench:
        model = of or read(made["llama"])
        steps = stepper(model, slots) if stepper else stepper_for(model, {"slots": slots})
        tokenizer = model.tokenizer
        return Bench(steps, lambda t: tokenizer.decode(t, skip_special_tokens=True), [tokenizer.eos_token_id], **more)

    yield make


def prompts(loaded: Any, count: int) -> list[list[int]]:
    words = ["hello", "river stone", "what is the capital of the city", "é漢", "w" * 60]
    texts = [f"{words[n % 5]} {n}" for n in range(count)]
    return [loaded.tokenizer(text)["input_ids"] for text in texts]


def test_staggered_arrivals_and_cancelled_neighbours_change_no_answer(bench: Make, loaded: Any) -> None:
    asked = prompts(loaded, 12)
    one = bench(slots=1)
    alone = [one.begin(prompt).text() for prompt in asked]
    many = bench(slots=5)
    heard, gone = [], []
    for number, prompt in enumerate(asked):
        heard.append(many.begin(prompt, streams=number % 2 == 0))
        gone.append(many.begin(prompt[::-1], 100, ignore_eos=True))
        if number % 3 == 0:
            gone[-1].began.wait(60)
        gone[-1].answer.cancel()
    assert [one.text() for one in heard] == alone
    assert len(set(alone)) > 6, "answers that are all alike would show nothing"


@pytest.mark.parametrize("name", ["llama-atlas", "mistral-atlas"])
def test_trained_models_answer_as_generate_does_in_any_company(name: str, bench: Make, shared: Path) -> None:
    import torch

    model = read(shared / "data" / "models" / name)
    asked = [
        model.tokenizer(f"<|user|>{question}<|end|><|assistant|>", add_special_tokens=False)["input_ids"]
        for question in QUESTIONS
    ]
    wanted = []
    for prompt in asked:
        with torch.inference_mode():
            out = model.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=24)[0]
        wanted.append(model.tokenizer.decode(out[len(prompt) :], skip_special_tokens=True))
    found = bench(of=model, slots=4)
    heard = []
    for number, prompt in enumerate(asked * 3):
        heard.append(found.begin(prompt, streams=number % 2 == 0))
        time.sleep(0.004 * (number % 3))
        if number % 4 == 3:
            found.begin(prompt, 200, ignore_eos=True).answer.cancel()
    assert [one.text() for one in heard] == wanted * 3


def test_a_seed_gives_the_same_text_whatever_is_computed_beside_it(bench: Make, loaded: Any) -> None:
    asked = prompts(loaded, 6)
    many = bench()
    settings = {"temperature": 1.3, "top_p": 0.9, "top_k": 40, "frequency": 0.5}
    alone = [many.begin(prompt, seed=number, **settings).text() for number, prompt in enumerate(asked)]
    company = [many.begin(prompt, 60, temperature=2.0) for prompt in asked[:3]]
    heard = [many.begin(prompt, seed=number, **settings) for number, prompt in enumerate(asked)]
    assert [one.text() for one in heard] == alone
    assert {one.end().finish for one in company} <= {"stop", "length"}
    assert many.begin(asked[0], seed=99, **settings).text() != alone[0]


def test_a_place_is_free_before_the_next_step_when_nobody_waits(bench: Make, loaded: Any) -> None:
    asked, release = prompts(loaded, 2), threading.Event()
    many = bench(held(release), slots=1)
    long, waits = many.begin(asked[0], 100, ignore_eos=True), many.begin(asked[1], 3)
    assert long.began.wait(60) and not waits.pieces
    long.answer.cancel()
    made = len(long.answer.made)
    release.set()
    waits.end()
    assert len(long.answer.made) <= made + 1
    assert many.writer.health() | {"tokens_per_second": 0} == {
        "ok": True,
        "running": 0,
        "waiting": 0,
        "tokens": len(long.answer.made) + len(waits.answer.made),
        "tokens_per_second": 0,
    }


def test_one_project_has_neither_all_places_nor_the_whole_queue(bench: Make, loaded: Any) -> None:
    from ecotone.engines.server.errors import RequestError

    prompt, release = prompts(loaded, 1)[0], threading.Event()
    many = bench(held(release), slots=2, most_waiting=10)
    assert many.begin(prompt, 90, ignore_eos=True, party="greedy").began.wait(60)
    greedy = [many.begin(prompt, 90, ignore_eos=True, party="greedy") for _ in range(10)]
    with pytest.raises(RequestError, match="no more than 10 of one project") as refused:
        greedy.extend(many.begin(prompt, 90, ignore_eos=True, party="greedy") for _ in range(3))  # two may have a place
    assert refused.value.status == 429
    modest = many.begin(prompt, 3, ignore_eos=True, party="modest")
    release.set()
    assert modest.end().finish == "length"
    assert sum(not heard.pieces for heard in greedy) >= 7, "who came first with many had all places first"
    for heard in greedy:
        heard.answer.cancel()


def test_min_tokens_ignored_ends_and_stop_tokens_count_as_asked(bench: Make, loaded: Any) -> None:
    many, prompt = bench(), prompts(loaded, 1)[0]
    free = many.begin(prompt, 90, ignore_eos=True)
    assert free.end().finish == "length" and free.end().tokens == 90
    token = free.answer.made[4]
    stopped = many.begin(prompt, 90, stop_tokens=(token,))
    assert stopped.end().finish == "stop" and stopped.answer.made[-1] == token
    later = many.begin(prompt, 90, stop_tokens=(token,), min_tokens=20)
    assert later.end().tokens > 20 and token not in later.answer.made[:20]


def test_repeating_and_bias_are_taken_into_account(bench: Make, loaded: Any) -> None:
    many, prompt = bench(), prompts(loaded, 1)[0]
    free = many.begin(prompt, 40, ignore_eos=True)
    free.end()
    again = many.begin(prompt, 40, ignore_eos=True, frequency=2.0, presence=2.0, repetition=3.0)
    again.end()
    assert len(set(again.answer.made)) > len(set(free.answer.made))
    biased = many.begin(prompt, 5, bias={77: 100.0})
    biased.end()
    assert biased.answer.made == [77] * 5


def test_log_probabilities_are_the_models_own(bench: Make, loaded: Any) -> None:
    import torch

    many, prompt = bench(), prompts(loaded, 1)[0]
    heard = many.begin(prompt, 8, logprobs=3, ignore_eos=True, temperature=0.7, seed=1)
    heard.end()
    chosen = [one for piece in heard.pieces for one in piece.chosen]
    assert [one.token for one in chosen] == heard.answer.made
    with torch.inference_mode():
        logits = loaded.model(torch.tensor([[*prompt, *heard.answer.made]])).logits[0].log_softmax(-1)
    for place, one in enumerate(chosen):
        row = logits[len(prompt) - 1 + place]
        assert one.logprob == pytest.approx(float(row[one.token]), abs=1e-4)
        assert [token for token, _ in one.top] == row.topk(3).indices.tolist()


def broken(stage: str, error: Exception, when: Callable[[int], bool]) -> Any:
    """A stepper whose calls of one kind fail when they are told to."""
    from ecotone.engines.server.stepping.alone import Alone

    class Broken(Alone):
        calls = itertools.count()

        def fill(self, budget: int) -> list[tuple[Any, Any]]:
            if stage == "fill" and any(when(len(row.prompt)) for row in self._opened):
                raise error
            return super().fill(budget)

        def step(self, rows: Sequence[Any], tokens: Sequence[int]) -> Any:
            if stage == "step" and when(next(self.calls)):
                raise error
            return super().step(rows, tokens)

    return Broken


def test_out_of_memory_fails_the_answers_of_that_step_and_the_engine_goes_on(bench: Make, loaded: Any) -> None:
    error = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4503599627370496 bytes")
    many = bench(broken("step", error, lambda call: call == 3))
    asked = prompts(loaded, 4)
    heard = [many.begin(prompt, 40, ignore_eos=True) for prompt in asked]
    ends = [one.end() for one in heard]
    lost = [end for end in ends if end.error is not None]
    assert lost and all(end.error.status == 503 and end.error.code == "out_of_memory" for end in lost)
    assert "memory" in lost[0].error.message
    assert many.begin(asked[0], 5, ignore_eos=True).end().tokens == 5 and many.writer.health()["ok"]


def test_a_prompt_that_cannot_be_read_harms_no_other(bench: Make, loaded: Any) -> None:
    many = bench(broken("fill", ValueError("bad prompt"), lambda size: size == 17))
    asked = [prompt for prompt in prompts(loaded, 6) if len(prompt) != 17]
    bad = (asked[0] * 17)[:17]
    heard = [many.begin(prompt) for prompt in asked[:2]]
    fails = many.begin(bad)
    heard += [many.begin(prompt) for prompt in asked[2:]]
    assert fails.end().error.status == 500
    assert all(one.text() is not None for one in heard) and many.writer.health()["ok"]


def test_an_engine_that_fails_at_every_step_says_so(bench: Make, loaded: Any) -> None:
    many, prompt = bench(broken("step", RuntimeError("device lost"), lambda call: True)), prompts(loaded, 1)[0]
    for _ in range(3):
        assert many.begin(prompt, 5, ignore_eos=True).end().error.status == 500
    assert many.writer.health()["ok"] is False


def test_a_step_that_hangs_is_seen(bench: Make, loaded: Any) -> None:
    release = threading.Event()
    many = bench(held(release), hanging=0.3)
    assert many.writer.health()["ok"]
    heard = many.begin(prompts(loaded, 1)[0], 3, ignore_eos=True)
    assert heard.began.wait(60)
    until(lambda: many.writer.health()["ok"] is False)
    release.set()
    heard.end()
    assert many.writer.health()["ok"]


def test_more_than_may_wait_are_told_to_come_later(bench: Make, loaded: Any) -> None:
    from ecotone.engines.server.errors import RequestError

    release = threading.Event()
    many, prompt = bench(held(release), slots=1, most_waiting=3), prompts(loaded, 1)[0]
    first = many.begin(prompt, 100, ignore_eos=True)
    assert first.began.wait(60)
    waiting = [many.begin(prompt, 2) for _ in range(3)]
    with pytest.raises(RequestError) as refused:
        many.begin(prompt, 2)
    assert refused.value.status == 429
    waiting[0].answer.cancel()
    last = many.begin(prompt, 2)  # whoever left does not count
    first.answer.cancel()
    release.set()
    assert last.end().error is None


def test_a_long_prompt_does_not_hold_up_those_who_write(bench: Make, loaded: Any) -> None:
    many = bench()
    writes = many.begin(prompts(loaded, 1)[0], 100, ignore_eos=True)
    assert writes.began.wait(60)
    many.begin((prompts(loaded, 1)[0] * 40)[:120], 2)
    assert writes.end().tokens == 100


def test_among_equal_logits_the_token_with_the_lowest_number_is_taken(bench: Make, loaded: Any) -> None:
    """Whatever the company, and whether or not log-probabilities are told; else greedy text could change."""
    import torch

    from ecotone.engines.server.stepping.alone import Alone

    class Tied(Alone):
        def fill(self, budget: int) -> list[tuple[Any, Any]]:
            return [(row, self._tied()) for row, _ in super().fill(budget)]

        def step(self, rows: Sequence[Any], tokens: Sequence[int]) -> Any:
            return torch.stack([self._tied() for _ in rows])

        def _tied(self) -> Any:
            logits = torch.zeros(261)
            logits[[250, 40, 77, 199]] = 3.0
            return logits

    many = bench(Tied, slots=8)
    heard = [many.begin(prompt, 6) for prompt in prompts(loaded, 9)]
    told = [many.begin(prompt, 6, logprobs=3) for prompt in prompts(loaded, 3)]
    assert [one.end() and one.answer.made for one in heard + told] == [[40] * 6] * 12
    for one in told:
        for chosen in (token for piece in one.pieces for token in piece.chosen):
            assert [token for token, _ in chosen.top] == [40, 77, 199]
