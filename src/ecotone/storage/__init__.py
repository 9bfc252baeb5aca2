"""Bytes by hash: git objects, LFS objects and Xet xorbs on disk; what a namespace may name; whole files when needed.

Knows nothing of models, revisions or HTTP. The tenant of everything is the namespace.
"""

from ecotone.storage.content import GONE, Content
from ecotone.storage.errors import (
    BadToken,
    BrokenShard,
    BrokenXorb,
    ContentNotFound,
    HashMismatch,
    ObjectMissing,
    RangeNotSatisfiable,
    UploadTooLarge,
)
from ecotone.storage.lfs import LfsStore
from ecotone.storage.objects import Outgoing, Segment, Stored
from ecotone.storage.services import Storage
from ecotone.storage.signing import Signer
from ecotone.storage.xet import XetStore

__all__ = [
    "GONE",
    "BadToken",
    "BrokenShard",
    "BrokenXorb",
    "Content",
    "ContentNotFound",
    "HashMismatch",
    "LfsStore",
    "ObjectMissing",
    "Outgoing",
    "RangeNotSatisfiable",
    "Segment",
    "Signer",
    "Storage",
    "Stored",
    "UploadTooLarge",
    "XetStore",
]
