"""Addresses inside requests: a server in the house fetches nothing for a caller that the caller cannot reach."""

import json
from typing import Any

import msgspec
import pytest

from ecotone.gateway.links import Links, may_hold
from ecotone.gateway.parsing import parse
from ecotone.vocabulary import Invalid

INSIDE = (
    "http://169.254.169.254/latest/meta-data/", "http://127.0.0.1:8000/x.png", "http://10.1.2.3/x.png",
    "http://2130706433/", "http://0x7f.1/", "http://[::1]/", "http://[::ffff:10.0.0.1]/", "http://[fd00::1]/x",
    "http://localhost/x", "HTTP://LOCALHOST:9000/x", "http://metadata.google.internal/", "http://vault.corp/x",
    "http://printer/x", "http://user@10.0.0.1/", "http://example.com\\@10.0.0.1/", " http://10.0.0.1/ ",
    "http://\uff11\uff10.0.0.1/", "file:///etc/passwd", "http://10.0.0.1./", "http:///x",
)  # fmt: skip
OUTSIDE = (
    "https://example.com/cat.png",
    "http://93.184.216.34/x",
    "data:image/png;base64,AAAA",
    "gs://bucket/x",
    "AAAA",
)


def asked(url: str, part: str = "image_url") -> dict[str, Any]:
    content = [{"type": "text", "text": "What is it?"}, {"type": part, part: {"url": url}}]
    return {"model": "demo/local", "messages": [{"role": "user", "content": content}]}


@pytest.mark.parametrize("url", INSIDE)
def test_an_address_inside_is_refused_before_anything_is_sent(house: Any, url: str) -> None:
    for part in ("image_url", "video_url", "audio_url"):
        answer = house.raw(json.dumps(asked(url, part)).encode())
        assert answer.status_code == 400, url
        assert answer.json()["error"]["code"] in ("address_not_public", "invalid_value")
    assert house.provider.seen == []


@pytest.mark.parametrize("url", OUTSIDE)
def test_an_address_of_the_public_network_and_the_data_itself_pass(house: Any, url: str) -> None:
    assert house.raw(json.dumps(asked(url)).encode()).status_code == 200
    assert house.provider.seen[-1]["messages"][0]["content"][1]["image_url"]["url"] == url


def test_no_way_of_writing_the_key_hides_an_address(house: Any) -> None:
    body = json.dumps(asked("http://10.0.0.1/"))
    for hidden in (
        body.replace('"image_url": {', '"image\\u005furl": {'),
        body.replace('"image_url": {', '"image_ur\\u006c" : {'),
        body.replace("http://10", "http:\\/\\/10"),
        json.dumps(
            {"model": "demo/local", "messages": [{"role": "user", "content": [{"image_url": "http://10.0.0.1/"}]}]}
        ),
        json.dumps(asked("http://10.0.0.1/") | {"temperature": 0}, separators=(",", ":")).replace("What", "W" * 8000),
    ):
        assert house.raw(hidden.encode()).status_code == 400, hidden[:200]
    assert house.provider.seen == []


def test_a_long_body_whose_texts_nobody_looks_at_hides_none_either(house: Any) -> None:
    found = house.snapshots.current
    shop = msgspec.structs.replace(found.consumers["shop"], scan=False)
    house.snapshots.current = msgspec.structs.replace(found, version=2, consumers={**found.consumers, "shop": shop})
    for url, status in (("http://10.0.0.1/", 400), ("https://example.com/x", 200)):
        body = asked(url)
        body["messages"].append({"role": "user", "content": "w" * 8000})
        assert house.raw(msgspec.json.encode(body)).status_code == status


def test_bodies_that_are_looked_through_in_a_thread_hide_none(house: Any) -> None:
    for url, status in (("http://10.0.0.1/", 400), ("data:image/png;base64," + "A" * 60_000, 200)):
        body = asked(url)
        body["messages"].append({"role": "user", "content": "w" * 100_000})
        assert house.raw(msgspec.json.encode(body)).status_code == status


def test_plain_texts_are_not_searched_for_addresses() -> None:
    plain: list[dict[str, Any]] = [
        {"model": "m", "messages": [{"role": "user", "content": 'see "image_url" at http://10.0.0.1/'}]},
        {"model": "m", "messages": [{"role": "assistant", "content": None}, {"role": "user", "content": "w" * 8000}]},
    ]
    for body in plain:
        for skimming in (False, True):
            assert not may_hold(parse("chat", msgspec.json.encode(body), skimming=skimming))
    for body in (asked("https://example.com/x"), {"model": "m", "messages": [{"file_url": "http://10.0.0.1/"}]}):
        for skimming in (False, True):
            assert may_hold(parse("chat", msgspec.json.encode(body), skimming=skimming))
    inputs = {"model": "m", "input": [{"image_url": "http://10.0.0.1/"}]}
    assert may_hold(parse("embeddings", msgspec.json.encode(inputs)))


def test_what_is_allowed_inside_may_be_named(house: Any) -> None:
    house.gateway._links = Links("media.internal, 10.1.0.0/16")
    for url, status in (
        ("http://media.internal/x", 200), ("http://10.1.2.3/x", 200), ("http://10.2.0.1/x", 400),
        ("http://other.internal/x", 400), ("http://169.254.169.254/", 400),
    ):  # fmt: skip
        assert house.raw(json.dumps(asked(url)).encode()).status_code == status, url
    with pytest.raises(Invalid, match="ECOTONE_REQUEST_ALLOW"):
        Links("10.0.0.0/33")
