"""Signed documents: JSON objects that prove themselves without the server, by the key that signs checkpoints.

    {..., "proof": {"sha256": "<64 hex>", "signature": "<Ed25519 over `ecotone document|SHA256`>", "key": "<hex>"}}

The hash is of the document without its proof, as JSON with sorted names and no spaces.
"""

import hashlib
import json
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MOST_BYTES: Final = 64 * 1024 * 1024


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is the public key, 32 bytes as hexadecimal digits."""

    sha256: str
    signature: str
    key: str


def proof_of(document: dict[str, Any], seed: bytes) -> Proof:
    """Sign a document.

    Args:
        seed: of the installation's signing key.
    """
    key = Ed25519PrivateKey.from_private_bytes(seed[:32])
    digest = digest_of(document)
    public = key.public_key().public_bytes_raw().hex()
    return Proof(sha256=digest, signature=key.sign(statement(digest)).hex(), key=public)


def statement(sha256: str) -> bytes:
    return f"ecotone document|{sha256}".encode()


def bytes_of(digits: str) -> bytes:
    """What hexadecimal digits mean, held to their letters: capitals, which mean the same, are no digits here.

    Raises:
        ValueError: when `bytes.hex` would not write them so.
    """
    found = bytes.fromhex(digits)
    if found.hex() != digits:
        raise ValueError(f"hexadecimal digits in small letters are expected, not {digits[:40]!r}")
    return found


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 of a document without its proof."""
    shown = {name: value for name, value in document.items() if name != "proof"}
    return hashlib.sha256(msgspec.json.encode(shown, order="sorted")).hexdigest()


def read_document(raw: bytes) -> dict[str, Any]:
    """The document that bytes hold.

    Raises:
        ValueError: saying why they hold none that every reader reads alike: no JSON object, larger than `MOST_BYTES`,
            or a name twice in one object, of which readers take the first or the last.
    """
    if len(raw) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    try:
        found = msgspec.json.decode(raw, type=dict[str, Any])
        json.loads(raw, object_pairs_hook=_once)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("it has a name twice in one object, so that not all readers would read the same")
    return found


def problem_of(document: dict[str, Any], key: bytes | None = None) -> str:
    """Why a document is not what an installation signed; empty when it is.

    Args:
        key: the installation's public key, known from elsewhere; else the one in the document, which proves only that
            nobody changed it since that key signed it.
    """
    proof = document.get("proof")
    if not isinstance(proof, dict) or not all(isinstance(proof.get(n), str) for n in ("sha256", "signature", "key")):
        return "it has no proof"
    if digest_of(document) != proof["sha256"]:
        return "its words are not those that were signed"
    if key is not None and key.hex() != proof["key"]:
        return "another key signed it"
    try:
        public = Ed25519PublicKey.from_public_bytes(bytes_of(proof["key"]))
        public.verify(bytes_of(proof["signature"]), statement(proof["sha256"]))
    except (ValueError, InvalidSignature):
        return "its signature does not fit"
    return ""
