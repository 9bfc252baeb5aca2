"""Streaming text: what goes out piece by piece is what would have come whole, and stop strings never get out."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ecotone.engines.server.text import TextStream


def decode(tokens: Sequence[int]) -> str:
    return bytes(tokens).decode("utf-8", "replace")


def stream(data: bytes, stops: tuple[str, ...] = ()) -> list[str]:
    found = TextStream(decode, stops)
    pieces = []
    for token in data:
        pieces.append(found.feed(token))
        if found.stopped:
            return pieces
    return [*pieces, found.finish()]


@given(st.text())
def test_pieces_make_the_whole_text(text: str) -> None:
    assert "".join(stream(text.encode())) == text


@given(st.text(min_size=1))
def test_no_piece_holds_half_a_character(text: str) -> None:
    if "\ufffd" not in text:
        assert "\ufffd" not in "".join(stream(text.encode()))


@given(st.text("abcé", max_size=40), st.lists(st.text("abcé", min_size=1, max_size=4), min_size=1, max_size=3))
def test_the_answer_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    wanted = text
    for end in range(len(text) + 1):
        places = [place for place in (text[:end].find(stop) for stop in stops) if place >= 0]
        if places:
            wanted = text[: min(places)]
            break
    assert "".join(stream(text.encode(), tuple(stops))) == wanted


def test_text_is_held_back_only_as_long_as_it_may_become_a_stop_string() -> None:
    assert stream(b"one two", ("###",))[:5] == ["", "", "o", "n", "e"]
    assert stream(b"one")[0] == "o"


@given(st.binary(max_size=60))
def test_bytes_that_are_no_text_still_come_out(data: bytes) -> None:
    out = "".join(stream(data))
    assert len(out) <= len(data) and (not data or out)
