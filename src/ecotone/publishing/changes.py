"""What a writer asks of publishing, and what it gets: frozen values."""

import msgspec

from ecotone.licences import Decision


class AddRegular(msgspec.Struct, frozen=True):
    """A small file, its bytes included."""

    path: str
    data: bytes


class AddLarge(msgspec.Struct, frozen=True):
    """A large file that was sent before; `size` None means: whatever is stored."""

    path: str
    sha256: str
    size: int | None = None


class Delete(msgspec.Struct, frozen=True):
    path: str


class DeleteFolder(msgspec.Struct, frozen=True):
    path: str


Operation = AddRegular | AddLarge | Delete | DeleteFolder


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """Changes on top of `parent`; without one they go on top of whatever the branch holds then."""

    message: str
    description: str = ""
    parent: str | None = None
    operations: tuple[Operation, ...] = ()


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A revision that became visible. `decision` is None for what is not judged (spaces)."""

    model_id: str
    revision_id: str
    decision: Decision | None = None
    warnings: tuple[str, ...] = ()
