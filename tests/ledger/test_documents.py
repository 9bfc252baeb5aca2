"""Signed documents: whoever has the key finds any change, also one that means the same."""

from collections.abc import Callable

import pytest

from ecotone.ledger import public_key
from ecotone.ledger.documents import problem_of, proof_of

SEED = bytes(range(32))
SAID = {"model": "demo/base", "items": [1, 2]}


@pytest.mark.parametrize("name", ["signature", "key"])
@pytest.mark.parametrize("change", [str.upper, lambda digits: f" {digits}"], ids=["capitals", "space"])
def test_a_proof_is_held_to_its_letters(name: str, change: Callable[[str], str]) -> None:
    """Hexadecimal digits are read in capitals too, and with spaces between them."""
    made = proof_of(SAID, SEED)
    proof = {"sha256": made.sha256, "signature": made.signature, "key": made.key}
    assert problem_of(SAID | {"proof": proof}) == problem_of(SAID | {"proof": proof}, public_key(SEED)) == ""
    proof[name] = change(proof[name])
    assert problem_of(SAID | {"proof": proof}) == "its signature does not fit"
