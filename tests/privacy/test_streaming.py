"""What a user would lose: a placeholder that is shown because its chunk looked harmless, or time on each chunk."""

from hypothesis import given, settings
from hypothesis import strategies as st

from ecotone.privacy import Pseudonyms
from ecotone.privacy import links as links
from ecotone.privacy.restoring import _BEGINNING, _LONGEST, Issued, core

NAMES = Pseudonyms(key=b"k" * 32)
ISSUED = [NAMES.mask(v) for v in ("maria.lopez@example.org", "4111 1111 1111 1111", "123-45-6789", "Email_K7Q2X4M6")]
MANGLED = [p.replace("_", separator) for p in (*ISSUED, *map(str.lower, ISSUED)) for separator in ("_", "\\_", " ", "")]
PARTS = st.one_of(
    st.sampled_from(MANGLED),
    st.sampled_from([*"\\_ -.:/'\"=<(&?#\n\t\r\f\v\x1c\u00a0\u017f"]),
    st.sampled_from(["www.", "e.com", "](", "http:", "url(", "word", "E"]),
    st.text(max_size=3),
)
TEXTS = st.lists(PARTS, max_size=8).map("".join)


def undecided(issued: Issued, text: str) -> int:
    """The plain form of it: every end of the text is tried."""
    start = max(0, len(text) - _LONGEST)
    while (hit := _BEGINNING.search(text, start)) is not None:
        if core(hit.group()) in issued.beginnings:
            return hit.start()
        start = hit.start() + 1
    return len(text)


@given(TEXTS, st.integers(0, 40))
@settings(max_examples=1000)
def test_the_beginning_of_a_placeholder_is_held_back_wherever_the_chunk_is_cut(text: str, cut: int) -> None:
    for piece in (text, text[: len(text) - cut % (len(text) + 1)]):
        assert NAMES._issued.undecided(piece) == undecided(NAMES._issued, piece)


def test_every_beginning_of_every_mangled_placeholder_is_held_back() -> None:
    for form in MANGLED:
        for size in range(1, len(form)):
            assert NAMES._issued.undecided("so " + form[:size]) == undecided(NAMES._issued, "so " + form[:size]) == 3


class PlainLinks(links.Links):
    """Follows every text with the full search."""

    def follow(self, text: str) -> None:
        place = len(self._kept) if self._within else 0
        text, outside_from = self._kept + text, 0
        while place < len(text):
            if self._within:
                place = outside_from = self._inside(text, place)
            else:
                place = self._outside(text, place)
        self._kept = text[-1:] if self._within else links._beginning(text[outside_from:])


@given(st.lists(TEXTS, max_size=8))
@settings(max_examples=1000)
def test_a_chunk_without_a_mark_leaves_the_address_where_it_is(pieces: list[str]) -> None:
    fast, plain = links.Links(), PlainLinks()
    for piece in pieces:
        fast.follow(piece)
        plain.follow(piece)
        assert vars(fast) == vars(plain)
