"""Reasons for which storage refuses."""

from ecotone.vocabulary import Forbidden, Invalid, NotFound, TooLarge, Unavailable


class BrokenXorb(Invalid):
    code = "broken_xorb"


class BrokenShard(Invalid):
    code = "broken_shard"


class HashMismatch(Invalid):
    """Bytes that do not have the hash under which they were sent."""

    code = "hash_mismatch"


class ObjectMissing(Invalid):
    """A commit or shard names an object that was not uploaded to this namespace."""

    code = "object_missing"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what} pointed to a file that does not exist here; upload it first, then try again.")


class ContentNotFound(NotFound):
    code = "content_not_found"


class BadToken(Forbidden):
    """A signed address or short-lived token that is wrong, too old, or for something else."""

    code = "bad_token"

    def __init__(self, why: str) -> None:
        super().__init__(f"The signed address or token is {why}; ask for a new one.")


class RangeNotSatisfiable(Invalid):
    code = "range_not_satisfiable"


class UploadTooLarge(TooLarge):
    code = "upload_too_large"


class StorageFull(Unavailable):
    """No room on the disk. Nothing of what was being stored is visible."""

    code = "storage_full"

    def __init__(self) -> None:
        super().__init__(
            "The server's disk is full and nothing was stored; make room on it, then try again.", retry_after=30
        )


class StoreUnavailable(Unavailable):
    """The object store did not do what was asked. `lost` when there was no answer: then it may have been done."""

    code = "object_store_unavailable"

    def __init__(self, place: object, why: str, *, lost: bool = False, retry_after: int = 5) -> None:
        self.lost = lost
        self.why = why
        super().__init__(f"The object store did not answer as it should: {place}: {why}", retry_after=retry_after)


class StoreFull(StoreUnavailable):
    """The object store has no room left or a quota is used up."""

    code = "storage_full"
