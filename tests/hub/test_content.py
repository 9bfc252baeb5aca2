"""Ranges: a wrong byte here is a broken resume, a wrong status a download begun again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.hub.content import asked_range


@pytest.mark.parametrize(
    ("header", "part"),
    [(None, None), ("", None), ("bytes=0-0", (0, 1)), ("bytes=2-", (2, 10)), ("bytes=-3", (7, 10)),
     ("bytes=-99", (0, 10)), ("bytes=5-99", (5, 10)), ("bytes=0-1,4-5", None), ("items=0-1", None), ("bytes=5-2", None),
     ("bytes=-", None),
     ("bytes=a-b", None), ("Bytes=1-2", (1, 3))],
)  # fmt: skip
def test_what_is_asked(header: str | None, part: tuple[int, int] | None) -> None:
    assert asked_range(header, 10) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=10-", 10), ("bytes=0-", 0), ("bytes=-0", 10), ("bytes=-1", 0)])
def test_what_cannot_be_given(header: str, size: int) -> None:
    with pytest.raises(ValueError):
        asked_range(header, size)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 40))
def test_a_range_lies_within(first: int, last: int, size: int) -> None:
    try:
        part = asked_range(f"bytes={first}-{last}", size)
    except ValueError:
        assert first >= size
        return
    assert part is None if last < first else part is not None and 0 <= part.start < part.end <= size
