"""Old segments that were removed after their export: what proves that the chain went on from there.

`retired.json` in the chain's folder names the last removed segment and the head behind it, signed by the installation,
so that `verify` can begin there and nobody can cut a chain's beginning unseen.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ecotone.ledger.documents import bytes_of
from ecotone.ledger.records import Head
from ecotone.ledger.segments import last_head, replace_durably, segments

NAME = "retired.json"


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """The last removed segment of a chain and the head with which it ended."""

    writer: str
    segment: int
    head: Head
    signature: str = ""

    def statement(self) -> bytes:
        return f"ecotone retired|{self.writer}|{self.segment}|{self.head.records}|{self.head.hash}".encode()

    def is_signed_by(self, key: Ed25519PublicKey) -> bool:
        try:
            key.verify(bytes_of(self.signature), self.statement())
        except (InvalidSignature, ValueError):
            return False
        return True


def retired(chain: Path) -> Retired | None:
    """What says that a chain's beginning was removed; None when nothing does."""
    try:
        return msgspec.json.decode((chain / NAME).read_bytes(), type=Retired)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def closed(chain: Path) -> list[Path]:
    """Segments that nothing is written to any more: those before the last one that has records."""
    files = segments(chain)
    filled = [number for number, file in enumerate(files) if _has_records(file)]
    return files[: filled[-1]] if filled else []


def _has_records(segment: Path) -> bool:
    try:
        return segment.stat().st_size > 0
    except FileNotFoundError:  # another one removed it
        return True


def retire(chain: Path, leaving: Sequence[Path], seed: bytes) -> Retired:
    """Remove a chain's oldest segments.

    Args:
        leaving: closed segments from the chain's beginning on, without a gap; they were exported.
        seed: of the installation's signing key.

    Raises:
        ValueError: when they are not the chain's oldest closed segments, or the last of them ends in no whole record.
    """
    oldest = closed(chain)[: len(leaving)]
    if not leaving or list(leaving) != oldest:
        raise ValueError(f"only the oldest closed segments of {chain.name} can be removed")
    head = last_head(leaving[-1])
    if head is None:
        raise ValueError(f"{chain.name}/{leaving[-1].name} does not end in a whole record; it stays")
    made = Retired(writer=chain.name, segment=int(leaving[-1].stem), head=head)
    signature = Ed25519PrivateKey.from_private_bytes(seed[:32]).sign(made.statement())
    replace_durably(chain / NAME, msgspec.json.encode(msgspec.structs.replace(made, signature=signature.hex())))
    for segment in leaving:
        segment.unlink()
    return made
