"""The gateway at the wire: who may call what, where a text may go, how a provider fails, what is recorded."""

import json
import socket
import time
from typing import Any

import msgspec
import pytest

from ecotone.ledger import Ledger, explain
from tests.receiver import until

SECRET = "maria.lopez@example.org"
IBAN = "DE89 3704 0044 0532 0130 00"
CREDENTIAL = "AKIA" + "Z7VRDKQ4NJ2EPXWS"


def events(text: str) -> list[Any]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def said(text: str) -> str:
    return "".join(c["delta"].get("content") or "" for e in events(text) for c in e.get("choices", ()))


def test_a_provider_answers_with_its_own_key_and_nothing_of_the_callers(house: Any) -> None:
    answer = house.post("fake/gpt-test", "Hello there")
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "You said: Hello there"
    assert answer.headers["x-ecotone-model"] == "fake/gpt-test"
    sent = house.provider.headers[-1]
    assert sent["authorization"] == "Bearer sk-upstream-secret"
    assert "eck_" not in str(sent)
    assert house.provider.seen[-1]["model"] == "gpt-test"
    assert answer.headers["x-ecotone-backend"] == "fake"


@pytest.mark.parametrize(
    ("key", "code"), [("", "missing_key"), ("eck_wrong", "invalid_api_key"), ("ect_user", "wrong_kind_of_secret")]
)
def test_a_wrong_key_is_401_in_openais_shape_and_the_wrong_kind_is_named(house: Any, key: str, code: str) -> None:
    answer = house.post("fake/gpt-test", key=key)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == code
    assert house.provider.seen == []


BAD = {
    "not json": b"{not json",
    "no object": b"[1]",
    "no model": b'{"messages": [{}]}',
    "model of another kind": b'{"model": 3, "messages": [{}]}',
    "no messages": b'{"model": "fake/gpt-test"}',
    "empty messages": b'{"model": "fake/gpt-test", "messages": []}',
    "key twice": b'{"model": "demo/local", "messages": [{}], "model": "fake/gpt-test"}',
    "key twice, once escaped": b'{"model": "demo/local", "messages": [{}], "mod\\u0065l": "fake/gpt-test"}',
    "key of another case": b'{"model": "demo/local", "Model": "fake/x", "messages": [{}]}',
    "salt of another case": b'{"model": "demo/local", "messages": [{}], "Cache_Salt": "x"}',
    "user of another case": b'{"model": "demo/local", "messages": [{}], "Safety_Identifier": "x"}',
    "not UTF-8": b'{"model": "demo/local", "messages": [{"role": "user", "content": "\xff"}]}',
    "too deep": b'{"model": "demo/local", "messages": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "stream of another kind": b'{"model": "demo/local", "messages": [{}], "stream": "yes"}',
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_is_400_and_says_what_is_expected(house: Any, name: str) -> None:
    answer = house.raw(BAD[name])
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["message"]
    assert house.provider.seen == []


def test_a_body_too_large_is_413_before_it_is_read_whole(house: Any) -> None:
    assert house.raw(b'{"x": "' + b"a" * 400_000 + b'"}').status_code == 413


def test_an_unknown_model_and_one_not_for_this_project_look_the_same(house: Any) -> None:
    answers = [house.post(m) for m in ("no/such", "demo/private", "demo/only")]
    assert {a.status_code for a in answers} == {404}
    assert (
        len(
            {
                a.json()["error"]["message"].replace(m, "")
                for a, m in zip(answers, ("no/such", "demo/private", "demo/only"), strict=True)
            }
        )
        == 1
    )
    assert house.post("demo/private", key="eck_house").status_code == 200
    assert house.post("demo/only", key="eck_house").status_code == 200


def test_a_refusal_by_licence_is_451_with_model_clause_and_way_out(house: Any) -> None:
    for model in ("demo/nc", "denied"):
        answer = house.post(model)
        assert answer.status_code == 451
        body = answer.json()
        assert body["error"]["message"] == "demo/nc may not be called"
        assert body["ecotone"]["reasons"][0]["clause"] == "2(a)(1)"
        assert body["ecotone"]["reasons"][0]["node"] == "demo/nc"
        assert body["ecotone"]["would_allow"]
        assert [r["kind"] for r in house.records(answer.headers["x-request-id"])] == ["refused"]
    assert house.provider.seen == []


def test_a_warning_of_the_organisation_reaches_the_caller(house: Any) -> None:
    assert "x-ecotone-warning" not in house.post("demo/local").headers
    now = house.snapshots.current
    warned = msgspec.structs.replace(now.rulings["free|commercial"], warning="look twice (rule r1).", rules=("r1",))
    house.snapshots.current = msgspec.structs.replace(now, rulings={**now.rulings, "free|commercial": warned})
    answer = house.post("demo/local")
    assert answer.status_code == 200
    assert answer.headers["x-ecotone-warning"] == "look twice (rule r1)."
    assert house.settled(answer)


def test_a_route_keeps_personal_data_local_and_says_why(house: Any) -> None:
    plain = house.post("assistant")
    assert plain.headers["x-ecotone-backend"] == "fake"
    moved = house.post("assistant", f"Write to {SECRET}")
    assert moved.status_code == 200
    assert moved.headers["x-ecotone-backend"] == "local"
    assert "personal" in moved.headers["x-ecotone-reason"]


@pytest.mark.parametrize("text", [SECRET, IBAN, "4111 1111 1111 1111", CREDENTIAL])
def test_personal_data_to_a_provider_is_403(house: Any, text: str) -> None:
    answer = house.post("fake/gpt-test", f"Check {text} please")
    assert answer.status_code == 403, answer.text
    assert "personal" in answer.headers["x-ecotone-reason"]
    assert text not in answer.text
    assert house.provider.seen == []


def test_personal_data_is_found_wherever_it_hides(house: Any) -> None:
    hiding = [
        {"messages": [{"role": "user", "content": [{"type": "text", "text": f"to {SECRET}"}]}]},
        {"messages": [{"role": "user", "content": "hi"}], "user": SECRET},
        {"messages": [{"role": "user", "content": "hi"}], "metadata": {SECRET: "x"}},
        {
            "messages": [
                {
                    "role": "assistant",
                    "tool_calls": [{"function": {"name": "f", "arguments": json.dumps({"to": SECRET})}}],
                }
            ]
        },
        {
            "messages": [{"role": "user", "content": "hi"}],
            "tools": [{"type": "function", "function": {"description": SECRET}}],
        },
    ]
    for more in hiding:
        assert house.raw(msgspec.json.encode({"model": "fake/gpt-test", **more})).status_code == 403, more
    escaped = json.dumps({"model": "fake/gpt-test", "messages": [{"role": "user", "content": SECRET}]})
    assert house.raw(escaped.replace("@", "\\u0040").encode()).status_code == 403
    assert house.provider.seen == []


def test_sixteen_digits_that_are_no_card_pass(house: Any) -> None:
    assert "4111 1111 1111 1112" in house.post("fake/gpt-test", "Order 4111 1111 1111 1112").text


@pytest.mark.parametrize("stream", [False, True])
def test_pseudonyms_outside_and_the_truth_inside(house: Any, stream: bool) -> None:
    text = f"Greet {SECRET} and {IBAN} today"
    answer = house.post("fake/gpt-test", text, key="eck_masked", stream=stream)
    got = said(answer.text) if stream else answer.json()["choices"][0]["message"]["content"]
    assert got == f"You said: {text}"
    sent = json.dumps(house.provider.seen[-1])
    assert "Greet" in sent
    assert SECRET not in sent
    assert IBAN not in sent


def test_a_secret_does_not_leave_even_pseudonymised(house: Any) -> None:
    assert house.post("fake/gpt-test", f"key {CREDENTIAL}", key="eck_masked").status_code == 403


def test_a_stream_is_metered_by_the_providers_figure_which_the_client_sees_only_if_asked(house: Any) -> None:
    answer = house.post("fake/gpt-test", stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert not any(e.get("usage") for e in events(answer.text))
    settled = house.settled(answer)
    assert (settled["prompt_tokens"], settled["completion_tokens"], settled["estimate"]) == (11, 7, False)
    asked = house.post("fake/gpt-test", stream=True, stream_options={"include_usage": True})
    assert any(e.get("usage") for e in events(asked.text))


@pytest.mark.parametrize("how", ["dies", pytest.param("stalls", marks=pytest.mark.stalls), "errs", "short"])
def test_a_stream_that_fails_is_an_error_event_and_never_a_short_answer(house: Any, how: str) -> None:
    answer = house.post(f"fake/gpt-{how}", "A longer sentence that will be cut", stream=True)
    assert answer.status_code == 200
    assert "[DONE]" not in answer.text
    last = events(answer.text)[-1]
    assert last["error"]["message"]
    settled = house.settled(answer)
    assert settled["status"] == "upstream_died"
    assert settled["estimate"]
    assert settled["completion_tokens"] > 0


def test_a_stream_that_finished_without_done_is_whole(house: Any) -> None:
    answer = house.post("fake/gpt-no-done", stream=True)
    assert answer.text.endswith("data: [DONE]\n\n")
    assert house.settled(answer)["status"] == "done"


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("fake/gpt-fails", 502),
        ("fake/gpt-refuses", 429),
        pytest.param("fake/gpt-stalls", 504, marks=pytest.mark.stalls),
        ("fake/gpt-cuts", 502),
        ("fake/gpt-key", 502),
        ("fake/gpt-redirects", 502),
        ("gone/x", 502),
        ("keyless/x", 503),
        ("demo/dead", 503),
    ],
)
def test_a_failing_backend_has_a_status_a_sentence_and_no_secret(house: Any, model: str, status: int) -> None:
    answer = house.post(model)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]
    assert "sk-upstream" not in answer.text
    if status == 429:
        assert answer.headers["retry-after"] == "7"


def test_a_route_falls_back_to_the_candidate_that_works(house: Any) -> None:
    answer = house.post("rescue")
    assert answer.status_code == 200
    assert answer.headers["x-ecotone-model"] == "fake/gpt-test"
    opened = [r for r in house.records(answer.headers["x-request-id"]) if r["kind"] == "opened"]
    assert [r["model"] for r in opened] == ["gone/x", "fake/gpt-fails", "fake/gpt-test"]
    assert answer.headers["x-ecotone-reason"] == "fallback; fake/gpt-fails failed (upstream_failed)"
    told = explain(Ledger(house.folder / "ledger"), answer.headers["x-request-id"])
    assert told is not None
    assert [(f["model"], f["error"]) for f in told["failed"]] == [
        ("gone/x", "upstream_unreachable"),
        ("fake/gpt-fails", "upstream_failed"),
    ]
    assert told["status"] == "done"


def test_when_no_candidate_works_the_last_reason_is_told(house: Any) -> None:
    assert house.post("hopeless").status_code == 429


def test_a_client_that_goes_away_stops_the_upstream_and_is_settled(house: Any) -> None:
    body = json.dumps(
        {"model": "fake/gpt-stalls", "stream": True, "messages": [{"role": "user", "content": "Hello you"}]}
    )
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer eck_shop\r\n"
    head += f"content-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", house.port)) as client:
        client.sendall((head + body).encode())
        received = b""
        while received.count(b"data:") < 2:
            received += client.recv(4096)
    request_id = received.split(b"x-request-id: ")[1].split(b"\r\n")[0].decode()
    end = time.monotonic() + 90
    while time.monotonic() < end and len(house.records(request_id)) < 2:
        time.sleep(0.02)
    assert house.records(request_id)[-1]["status"] in ("client_gone", "upstream_died")


def test_the_ledger_replays_the_decision_without_the_prompt(house: Any) -> None:
    answer = house.post("demo/local", f"A very private thought of {SECRET}")
    told = explain(Ledger(house.folder / "ledger"), answer.headers["x-request-id"])
    assert told is not None
    assert told["model"] == "demo/local"
    assert told["revision"] == "a" * 40
    assert told["knowledge_base"] == "2026.11.24"
    assert told["decision"]["reasons"][0]["clause"] == "2"
    assert told["kinds"] == {"email": 1}
    assert told["status"] == "done"
    assert told["cost"] == 0
    text = "".join(f.read_text() for f in (house.folder / "ledger").rglob("*.jsonl"))
    for hidden in ("private thought", SECRET, "eck_shop", "sk-upstream"):
        assert hidden not in text
    assert Ledger(house.folder / "ledger").verify().ok


def test_embeddings_and_models(house: Any) -> None:
    answer = house.raw(b'{"model": "fake/embed", "input": "x"}', "/v1/embeddings")
    assert answer.json()["data"][0]["embedding"] == [0.5]

    def listed() -> set[str]:
        answer = house.client.get("/v1/models", headers={"authorization": "Bearer eck_shop"})
        return {m["id"] for m in answer.json()["data"]}

    until(lambda: "fake/gpt-test" in listed())  # a provider's list has three seconds to come
    names = listed()
    assert {"demo/local", "fake/gpt-test", "assistant"} <= names
    assert not {"demo/nc", "demo/private", "demo/only"} & names
    one = house.client.get("/v1/models/demo/local", headers={"authorization": "Bearer eck_shop"})
    assert one.json()["id"] == "demo/local"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/chat/completions", 405), ("POST", "/v1/nothing", 404)]
)
def test_other_methods_and_paths(house: Any, method: str, path: str, status: int) -> None:
    answer = house.client.request(method, path, headers={"authorization": "Bearer eck_shop"})
    assert answer.status_code == status


def test_a_snapshot_too_old_refuses(house: Any) -> None:
    house.snapshots.current = msgspec.structs.replace(house.snapshots.current, built=time.time() - 10_000)
    assert house.post("demo/local").status_code == 503
