"""Servers that refuse `stream_options`: old OpenAI-compatible ones, and old versions of Azure's API."""

import socket
from typing import Any

import pytest

from tests.gateway.wires import EVENTS, STREAM, Scene, Wire, chunked, whole

REFUSED = "Unrecognized request argument supplied: stream_options"
ASKED = {"include_usage": True}


def plain(scene: Scene, *, status: bytes = b"400 Bad Request", takes_none: bool = False) -> Wire:
    """A server that refuses `stream_options`, or any stream with an error that names them."""

    def script(s: socket.socket, number: int) -> None:
        if takes_none or "stream_options" in wire.bodies[number - 1]:
            s.sendall(whole({"error": {"message": REFUSED, "type": "invalid_request_error"}}, status=status))
        else:
            s.sendall(STREAM + chunked(*[event for event in EVENTS if b'"usage"' not in event]))

    wire = scene.wire(script)
    return wire


@pytest.mark.parametrize("status", [b"400 Bad Request", b"422 Unprocessable Entity"])
def test_a_server_that_refuses_our_wish_for_usage_is_asked_without_and_its_tokens_are_counted(
    scene: Scene, status: bytes
) -> None:
    wire = plain(scene, status=status)
    got = scene.call(stream=True)
    assert (got["error"], got["text"], got["finish"]) == (None, "Hi you", ["stop"])
    settled = scene.settle(1, "done")
    assert settled["estimate"] and settled["completion_tokens"] and settled["cost"]
    assert [body.get("stream_options") for body in wire.bodies] == [ASKED, None]
    assert scene.call(stream=True)["text"] == "Hi you"
    assert wire.requests == 3, "it is known from then on"
    assert scene.call("wire/other", stream=True)["text"] == "Hi you"
    assert wire.requests == 5, "another model of the server may know it"
    (place,) = [place for place in scene.house.gateway._lanes.places if place.plain]
    place.plain["m"] = scene.house.gateway.now() - 1
    assert scene.call(stream=True)["text"] == "Hi you"
    assert wire.bodies[5]["stream_options"] == ASKED, "it may be a newer one by now"
    scene.settle(4, "done")
    assert not scene.rests()


def test_who_asks_for_usage_is_told_that_the_server_refuses(scene: Scene) -> None:
    wire = plain(scene)
    got = scene.call(stream=True, stream_options=ASKED)
    assert got["status"] == 400 and REFUSED in got["message"]
    assert wire.requests == 1


def test_an_error_that_only_quotes_the_name_turns_no_measuring_off(scene: Scene) -> None:
    """Else who writes it into a bad request has everybody's tokens guessed."""
    wire = plain(scene, takes_none=True)
    assert scene.call(stream=True)["status"] == 400
    assert scene.call(stream=True)["status"] == 400
    assert [body.get("stream_options") for body in wire.bodies] == [ASKED, None, ASKED, None]
    scene.settle(2, "failed")


def test_placeholders_stay_where_a_body_is_sent_again(scene: Scene) -> None:
    wire = plain(scene)
    answer = scene.house.post("wire/m", "write to ann@example.org", key="eck_masked", stream=True)
    assert answer.status_code == 200 and b"[DONE]" in answer.content
    assert [body.get("stream_options") for body in wire.bodies] == [ASKED, None]
    assert "ann@example.org" not in str(wire.bodies)


def test_a_fallback_is_asked_for_usage_again(scene: Scene) -> None:
    first = plain(scene, takes_none=True)
    bodies: list[dict[str, Any]] = []
    other = scene.wire(lambda s, _: s.sendall(STREAM + chunked(*EVENTS)), name="other")
    scene.route("both", "wire/m", "other/m")

    def busy(s: socket.socket, number: int) -> None:
        refused = {"error": {"message": REFUSED}}
        s.sendall(whole(refused, status=b"400 Bad Request") if number == 1 else whole({}, status=b"500 Broken"))

    first.script = busy
    assert scene.call("both", stream=True)["text"] == "Hi you"
    bodies += other.bodies
    assert [body.get("stream_options") for body in bodies] == [ASKED]
    assert not scene.settle(None, "done")["estimate"]
