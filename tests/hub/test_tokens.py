"""A token for one repository's reading must open nothing else."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.hub.tokens import GRACE, Claims, Signer
from ecotone.settings import Settings
from ecotone.vocabulary import Forbidden, Unauthenticated

CLAIMS = Claims("xet", 1, "demo", False, 1000, "ana")


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer(Settings(data=tmp_path_factory.mktemp("data")))


def test_a_token_says_what_was_signed(signer: Signer, tmp_path: Path) -> None:
    token = signer.sign(CLAIMS)
    assert signer.read(token, "xet", write=False, now=1000) == CLAIMS
    with pytest.raises(Forbidden):
        signer.read(token, "xet", write=True, now=1000)
    with pytest.raises(Unauthenticated):
        signer.read(token, "lfs", write=False, now=1000)
    assert signer.read(token, "xet", write=False, now=1000 + GRACE)
    with pytest.raises(Unauthenticated):
        signer.read(token, "xet", write=False, now=1001 + GRACE)
    with pytest.raises(Unauthenticated):
        Signer(Settings(data=tmp_path)).read(token, "xet", write=False, now=1000)


@given(st.text(max_size=100))
def test_nothing_else_is_a_token(signer: Signer, text: str) -> None:
    with pytest.raises(Unauthenticated):
        signer.read(text, "xet", write=False, now=0)


@given(st.data())
def test_a_changed_token_is_none(signer: Signer, data: st.DataObject) -> None:
    token = signer.sign(CLAIMS)
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("Ab0_"))
    if token[at] != letter:
        with pytest.raises(Unauthenticated):
            signer.read(token[:at] + letter + token[at + 1 :], "xet", write=False, now=1000)
