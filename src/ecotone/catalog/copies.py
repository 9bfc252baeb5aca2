"""Which repositories name the same large files: copies that no card tells of. Only reads."""

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from ecotone.catalog.models import AccessRequestRow, LargeFileRow, ModelRow, ObjectRow
from ecotone.database import Database, batches

_BATCH = 300
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".h5", ".msgpack", ".npz")


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A large file that a repository names. `path` is where it came first, empty when that was not kept."""

    row: int
    name: str
    path: str = ""

    @property
    def is_weights(self) -> bool:
        """Whether it holds weights, as far as its name tells; a tokenizer is the same in many unrelated models."""
        return not self.path or self.path.lower().endswith(_WEIGHTS)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How a repository stands: its name now (a dataset's after `datasets/`), downloads, who was let in."""

    row: int
    name: str
    living: bool
    head: str | None
    downloads: int
    gated: bool
    namespace: str


class Copies:
    """Questions to the tables of the catalogue. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def named_by(self, rows: Iterable[int], most: int) -> list[Named]:
        """Large files of these repositories, at most `most`."""
        found: list[Named] = []
        with self._database.reading() as session:
            for some in batches(sorted(set(rows)), _BATCH):
                wanted = (
                    sa.select(ObjectRow.model_key, ObjectRow.name, LargeFileRow.path)
                    .outerjoin(
                        LargeFileRow,
                        sa.and_(LargeFileRow.model_key == ObjectRow.model_key, LargeFileRow.sha256 == ObjectRow.name),
                    )
                    .where(ObjectRow.model_key.in_(some))
                    .order_by(ObjectRow.model_key, ObjectRow.name)
                    .limit(max(0, most - len(found)))
                )
                found += [Named(row=r, name=n, path=p or "") for r, n, p in session.execute(wanted)]
        return found

    def naming(self, names: Iterable[str], most: int) -> list[Named]:
        """Living repositories that name one of these files."""
        found: list[Named] = []
        with self._database.reading() as session:
            for some in batches(sorted(set(names)), _BATCH):
                wanted = (
                    sa.select(ObjectRow.model_key, ObjectRow.name, LargeFileRow.path)
                    .join(ModelRow, ModelRow.key == ObjectRow.model_key)
                    .outerjoin(
                        LargeFileRow,
                        sa.and_(LargeFileRow.model_key == ObjectRow.model_key, LargeFileRow.sha256 == ObjectRow.name),
                    )
                    .where(ObjectRow.name.in_(some), ModelRow.buried == 0)
                    .order_by(ObjectRow.model_key, ObjectRow.name)
                    .limit(max(0, most - len(found)))
                )
                found += [Named(row=r, name=n, path=p or "") for r, n, p in session.execute(wanted)]
        return found

    def standing(self, rows: Iterable[int]) -> dict[int, Standing]:
        """How repositories stand, deleted ones too."""
        found: dict[int, Standing] = {}
        with self._database.reading() as session:
            for some in batches(sorted(set(rows)), _BATCH):
                for row in session.scalars(sa.select(ModelRow).where(ModelRow.key.in_(some))):
                    prefix = "" if row.repo_type == "model" else f"{row.repo_type}s/"
                    found[row.key] = Standing(
                        row=row.key,
                        name=f"{prefix}{row.namespace}/{row.name}",
                        living=not row.buried,
                        head=row.head,
                        downloads=row.downloads,
                        gated=row.gated is not None,
                        namespace=row.namespace,
                    )
        return found

    def let_in(self, rows: Iterable[int], most: int) -> list[tuple[int, str]]:
        """Users who were let into gated repositories, with the row of each."""
        found: list[tuple[int, str]] = []
        with self._database.reading() as session:
            for some in batches(sorted(set(rows)), _BATCH):
                wanted = (
                    sa.select(AccessRequestRow.model_key, AccessRequestRow.user)
                    .where(AccessRequestRow.model_key.in_(some), AccessRequestRow.status == "accepted")
                    .order_by(AccessRequestRow.key)
                    .limit(max(0, most - len(found)))
                )
                found += [(key, user) for key, user in session.execute(wanted)]
        return found
