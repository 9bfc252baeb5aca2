"""Money from the request to the ledger: no budget is overspent, however many call, and nothing is free by mistake."""

import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations
from typing import Any

import httpx
import pytest

from ecotone.gateway.limits import Limiter
from ecotone.gateway.metering import Usage
from ecotone.gateway.plane.figures import answer_decoder
from ecotone.gateway.snapshot import Budget, Limit
from ecotone.gateway.spending import totals
from ecotone.ledger import Ledger
from ecotone.ledger.usage import summed
from tests.gateway.wires import ANSWER, EACH, EVENTS, MUCH, STREAM, Scene, chunked, delta, event, last, whole

SCOPES = ("key:shop", "project:shop", "organisation", "backend:wire")


@pytest.fixture
def scene(house: Any) -> Any:
    found = Scene(house, None)
    yield found
    found.stop()


def budget(name: str, limit: int, window: str = "total") -> Limit:
    return Limit(budgets=(Budget(id=name, limit=limit, window=window),))


def post(
    scene: Scene, model: str = "wire/m", path: str = "chat/completions", key: str = "eck_shop", **body: Any
) -> Any:
    if path.startswith("chat"):
        body.setdefault("messages", [{"role": "user", "content": "Hello"}])
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(
        f"{scene.house.url}/v1/{path}", json={"model": model, **body}, headers=headers, timeout=120, trust_env=False
    )


def ended(answer: httpx.Response) -> int | str:
    """200, or the code of the refusal: a budget's and a rate's have the same status."""
    return 200 if answer.status_code == 200 else str(answer.json()["error"]["code"])


def together(scene: Scene, calls: int, **body: Any) -> Counter[int | str]:
    headers = {"authorization": "Bearer eck_shop"}
    sent = {"model": "wire/m", "messages": [{"role": "user", "content": "Hello"}], **body}
    with httpx.Client(
        timeout=60, trust_env=False, limits=httpx.Limits(max_connections=200), headers=headers
    ) as client, ThreadPoolExecutor(64) as pool:  # fmt: skip
        url = f"{scene.house.url}/v1/chat/completions"
        return Counter(pool.map(lambda _: ended(client.post(url, json=sent)), range(calls)))


def answer_of(tokens: int, prompt: int = 11) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    return whole({**ANSWER, "usage": usage})


@pytest.mark.parametrize(
    ("body", "stream"),
    [({"max_tokens": 100}, False), ({}, True), ({}, False), ({"max_completion_tokens": 10, "n": 10}, True)],
    ids=str,
)
def test_two_hundred_calls_at_once_on_a_budget_for_ten_never_overspend(
    scene: Scene, body: dict[str, Any], stream: bool
) -> None:
    """Whether or not the request says how long its answer may be, and however many answers it asks for."""
    most = 100 if body else 4096

    def script(s: Any, _: int) -> None:
        time.sleep(0.1)
        usage = {"prompt_tokens": 11, "completion_tokens": most, "total_tokens": 11 + most}
        s.sendall(
            STREAM + chunked(delta("Hi", "stop"), last(usage), b"data: [DONE]\n\n") if stream else answer_of(most)
        )

    wire = scene.wire(script)
    each = (most + 60) * EACH
    scene.place(limits={"project:shop": budget("p", 10 * each)})
    statuses = together(scene, 200, stream=stream, **body)
    assert set(statuses) == {200, "budget_exceeded"}
    scene.limiter._look(time.monotonic())
    end = time.monotonic() + 90
    while scene.house.gateway.jobs and time.monotonic() < end:
        time.sleep(0.02)
    spent = sum(r["cost"] for r in scene.ends())
    assert 0 < spent <= 10 * each
    assert spent == wire.requests * (11 + most) * EACH
    assert scene.spent() == {"p": spent}
    assert wire.requests == statuses[200] >= 9


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("chat/completions", {"n": 50, "max_tokens": 100}),
        ("completions", {"prompt": "x", "best_of": 50, "max_tokens": 100}),
        ("completions", {"prompt": ["x"] * 50, "max_tokens": 100}),
        ("chat/completions", {"max_completion_tokens": 1, "max_tokens": 5000}),
        ("chat/completions", {"max_tokens": -1}),
    ],
    ids=str,
)
def test_a_request_that_may_cost_more_than_is_left_is_refused_before_it_is_sent(
    scene: Scene, path: str, body: dict[str, Any]
) -> None:
    wire = scene.wire(lambda s, _: s.sendall(answer_of(5000)))
    scene.place(limits={"key:shop": budget("k", 4000 * EACH)})
    answer = post(scene, path=path, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "budget_exceeded")
    assert wire.requests == 0


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens", "n"])
@pytest.mark.parametrize("value", ["5000", 5000.0, 2**60, True, [5000]], ids=str)
def test_a_limit_that_a_lenient_server_may_read_as_a_number_is_reserved_as_one(
    scene: Scene, name: str, value: Any
) -> None:
    wire = scene.wire(lambda s, _: s.sendall(whole()))
    scene.place(limits={"key:shop": budget("k", 4000 * EACH)})
    assert ended(post(scene, **{name: value})) == "budget_exceeded"
    assert wire.requests == 0


@pytest.mark.parametrize("scopes", [*((s,) for s in SCOPES), *combinations(SCOPES, 2)], ids=str)
def test_a_budget_at_every_level_alone_and_in_pairs_ends_the_calls_and_one_of_them_is_named(
    scene: Scene, scopes: tuple[str, ...]
) -> None:
    wire = scene.wire(lambda s, _: s.sendall(whole()))
    tight = {scope: budget(scope, (100 if n == 0 else 1000) * EACH) for n, scope in enumerate(scopes)}
    scene.place(limits=tight)
    statuses = [ended(post(scene, max_tokens=7)) for _ in range(8)]
    assert statuses == sorted(statuses, key=str) and statuses[-1] == "budget_exceeded"
    spent = scene.spent()
    assert set(spent) == set(scopes)
    assert {spent[scope] for scope in scopes} == {wire.requests * 18 * EACH}
    assert spent[scopes[0]] <= 100 * EACH
    refused = post(scene, max_tokens=7).json()["error"]
    assert scopes[0].partition(":")[0] in refused["message"]


def test_a_key_of_the_house_is_counted_like_any_other(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole()))
    scene.place(limits={"organisation": budget("o", 100 * EACH)})
    statuses = [ended(post(scene, key="eck_house", max_tokens=7)) for _ in range(6)]
    assert statuses[0] == 200 and statuses[-1] == "budget_exceeded"


def test_what_was_spent_stays_spent_over_a_restart_and_a_changed_limit(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole()))
    limits = {"project:shop": budget("p", 90 * EACH)}  # no month, which might end in between
    scene.place(limits=limits)
    assert [post(scene, max_tokens=7).status_code for _ in range(2)] == [200, 200]
    ledger = Ledger(scene.house.folder / "ledger")
    known = totals(ledger, limits, time.time())
    assert known["server"]["p"][1] == 36 * EACH
    scene.limiter = scene.house.gateway.limiter = Limiter(spent=known["server"])
    scene.limiter.use(limits)
    assert [ended(post(scene, max_tokens=7)) for _ in range(3)][-1] == "budget_exceeded"
    assert 36 * EACH <= scene.spent()["p"] == sum(r["cost"] for r in scene.ends()) <= 90 * EACH
    more = {"project:shop": budget("p", 1000 * EACH)}
    scene.place(limits=more)
    assert post(scene, max_tokens=7).status_code == 200
    assert scene.spent()["p"] == sum(r["cost"] for r in scene.ends())


def test_a_limit_that_is_lowered_while_calls_run_holds_for_the_next(scene: Scene) -> None:
    going, lowered = threading.Event(), threading.Event()

    def script(s: Any, _: int) -> None:
        going.set()
        assert lowered.wait(60)
        s.sendall(whole())

    scene.wire(script)
    scene.place(limits={"project:shop": budget("p", MUCH)})
    thread = threading.Thread(target=lambda: post(scene, max_tokens=7))
    thread.start()
    assert going.wait(60)
    scene.place(limits={"project:shop": budget("p", 30 * EACH)})
    assert ended(post(scene, max_tokens=7)) == "budget_exceeded"
    lowered.set()
    thread.join()
    assert scene.spent() == {"p": 18 * EACH}


def test_an_answer_of_nothing_in_but_much_out_is_not_free(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(answer_of(500, prompt=0)))
    assert post(scene).status_code == 200
    assert scene.ends()[-1]["cost"] == 500 * EACH


@pytest.mark.parametrize("stream", [False, True])
def test_a_kept_answer_costs_nothing_and_is_given_when_the_budget_is_spent(scene: Scene, stream: bool) -> None:
    wire = scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS) if stream else whole()))
    scene.route("kept", "wire/m", cache_seconds=60)
    scene.place(limits={"project:shop": budget("p", 60 * EACH)})
    assert post(scene, "kept", stream=stream, max_tokens=7).status_code == 200
    end = time.monotonic() + 90
    while not scene.ends() and time.monotonic() < end:
        time.sleep(0.02)
    scene.place(limits={"project:shop": budget("p", 18 * EACH)})
    for _ in range(3):
        again = post(scene, "kept", stream=stream, max_tokens=7)
        assert again.status_code == 200 and "Hi" in again.text
    assert wire.requests == 1
    assert [(r["status"], r["cost"]) for r in scene.ends()] == [("done", 18 * EACH)] + [("cached", 0)] * 3
    assert scene.spent() == {"p": 18 * EACH}
    assert ended(post(scene, "wire/m", max_tokens=7)) == "budget_exceeded"


def test_a_shadow_is_paid_from_the_same_budgets_of_project_tag_and_user(scene: Scene) -> None:
    scene.wire(lambda s, _: s.sendall(whole()))
    other = scene.wire(lambda s, _: s.sendall(whole()), name="other")
    scene.route("watched", "wire/m", shadow="other/m")
    limits = {s: budget(s, MUCH) for s in ("project:shop", "project:shop/tag:blue", "backend:other")}
    scene.place(limits=limits)
    headers = {"authorization": "Bearer eck_shop", "x-ecotone-tags": "blue"}
    body = {"model": "watched", "messages": [{"role": "user", "content": "Hi"}]}
    assert scene.house.client.post("/v1/chat/completions", json=body, headers=headers).status_code == 200
    scene.limits = limits
    end = time.monotonic() + 90
    while len(scene.ends()) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    assert other.requests == 1
    assert scene.spent() == {
        "project:shop": 36 * EACH, "project:shop/tag:blue": 36 * EACH, "backend:other": 18 * EACH,
    }  # fmt: skip
    assert {r.get("tags") and r["tags"][0] for r in scene.ends()} == {"blue"}


FACES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "chat": ("chat/completions", {}, ANSWER),
    "completions": ("completions", {"prompt": "Hello"}, {"choices": [{"index": 0, "text": "Hi"}]}),
    "embeddings": ("embeddings", {"input": "Hello"}, {"data": [{"index": 0, "embedding": [0.5]}]}),
}  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("face", FACES)
def test_every_face_is_charged_what_the_provider_charged(scene: Scene, face: str, stream: bool) -> None:
    path, body, answer = FACES[face]
    usage = {"prompt_tokens": 11, "completion_tokens": 0 if face == "embeddings" else 7}

    def script(s: Any, _: int) -> None:
        if stream and face != "embeddings":
            choice = {"index": 0, "finish_reason": "stop"} | ({"delta": {}} if face == "chat" else {"text": "Hi"})
            s.sendall(STREAM + chunked(event({"choices": [choice]}), last(usage), b"data: [DONE]\n\n"))
        else:
            s.sendall(whole({**answer, "usage": usage}))

    wire = scene.wire(script)
    scene.place(limits={"project:shop": budget("p", MUCH)})
    for _ in range(3):
        assert post(scene, path=path, stream=stream, **body).status_code == 200
    end = time.monotonic() + 90
    while len(scene.ends()) < 3 and time.monotonic() < end:
        time.sleep(0.02)
    charged = wire.requests * (usage["prompt_tokens"] + usage["completion_tokens"]) * EACH
    assert sum(r["cost"] for r in scene.ends()) == charged == scene.spent()["p"]


def test_the_usage_of_an_ordinary_answer_is_read_in_one_typed_decode() -> None:
    """Another way reads it where this one fails, several times as slow: nothing else would tell."""
    told = {
        **{"prompt_tokens": 30, "completion_tokens": 5, "total_tokens": 35},
        "prompt_tokens_details": {"cached_tokens": 8, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }
    found = answer_decoder.decode(json.dumps({"id": "x", "service_tier": "default", "usage": told}).encode())
    usage = Usage()
    assert found.error is None and found.usage is not None and usage.take_decoded(found.usage)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimate) == (30, 5, False)
    assert (usage.cached_tokens, usage.reasoning_tokens, found.service_tier) == (8, 2, "default")


def test_an_error_in_metering_is_an_error_of_the_request_and_not_a_free_call(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def decode(self, _: bytes) -> Any:
            raise RuntimeError("metering is broken")

    monkeypatch.setattr("ecotone.gateway.plane.answering.answer_decoder", Broken())
    scene.wire(lambda s, _: s.sendall(whole()))
    scene.place(limits={"project:shop": budget("p", MUCH)})
    answer = post(scene)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    settled = scene.ends()[-1]
    assert settled["estimate"] and settled["cost"] > 0
    assert scene.spent() == {"p": settled["cost"]}


def test_sums_made_anew_from_the_ledger_are_those_of_the_budgets(scene: Scene) -> None:
    """Good answers, cut streams, refusals, kept answers, attempts that failed and were paid for."""

    def script(s: Any, n: int) -> bool:
        if n % 4 == 0:
            return False
        if n % 4 == 1:
            s.sendall(STREAM + chunked(delta("Hi"), end=False))
            return False
        s.sendall(STREAM + chunked(*EVENTS))
        return True

    scene.wire(script)
    scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS)), name="other")
    scene.house.gateway.chooser.health._failures = 10**9
    scene.route("both", "wire/m", "other/m", cache_seconds=60)
    scene.place(limits={s: budget(s, MUCH) for s in ("project:shop", "backend:wire", "backend:other")})
    for n in range(24):
        post(scene, "both" if n % 2 else "wire/m", stream=True, temperature=n // 4)
    end = time.monotonic() + 90
    while scene.house.gateway.jobs and time.monotonic() < end:
        time.sleep(0.02)
    lines = [
        line
        for f in (scene.house.folder / "ledger").rglob("*.jsonl")
        for line in f.read_bytes().splitlines(keepends=True)
    ]
    by: Counter[str] = Counter()
    for who, sums in summed(lines).items():
        by["project:" + who.project] += sums.cost
        by["backend:" + who.backend] += sums.cost
    assert {k: v for k, v in by.items() if v} == {k: v for k, v in scene.spent().items() if v}
    found = totals(Ledger(scene.house.folder / "ledger"), scene.house.snapshots.current.limits, time.time())
    assert {name: cost for name, (_, cost) in found["server"].items()} == scene.spent()
