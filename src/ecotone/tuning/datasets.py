"""Training rows out of a data set of the hub: the chat rows of its JSONL files, and the edge that says so."""

from collections.abc import Iterator

import msgspec

from ecotone.accounts import Actor
from ecotone.catalog import Catalog, LineageEdge, Model, Revision
from ecotone.storage import Storage
from ecotone.tuning.data import check
from ecotone.tuning.errors import NotTunable
from ecotone.vocabulary import EdgeStatus, Relation, RepoType

MOST_BYTES = 64 * 1024 * 1024
_KEPT = ("role", "content", "name", "weight")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A data set at a revision, and its rows in the form that `data.check` reads."""

    dataset: str
    revision: str
    rows: bytes = b""
    passed_over: int = 0


def read_dataset(catalog: Catalog, storage: Storage, name: str, viewer: Actor) -> Source:
    """The rows of `NAMESPACE/NAME[@REVISION]`; those that a run cannot use are passed over and counted.

    Raises:
        ModelNotFound, RevisionNotFound: there is no such data set for the viewer.
        NotTunable: it has no chat rows, or more than are read.
    """
    dataset, _, rev = name.partition("@")
    model = catalog.model(dataset, viewer=viewer, repo_type=RepoType.DATASET)
    revision = catalog.revision(model, rev or "main")
    rows, size, passed_over = [], 0, 0
    for row in _rows(catalog, storage, model, revision):
        if row is None or check(row).broken:
            passed_over += 1
            continue
        rows.append(row)
        size += len(row)
        if size > MOST_BYTES:
            raise NotTunable(
                f"{model.id} holds more than {MOST_BYTES >> 20} MiB of chat rows, the most that a run takes.",
                param="dataset",
            )
    if not rows:
        raise NotTunable(
            f'{model.id} holds no chat rows: JSONL files with {{"messages": [...]}} are expected.', param="dataset"
        )
    return Source(dataset=model.id, revision=revision.id, rows=b"".join(rows), passed_over=passed_over)


def edge(child: str, dataset: str, revision: str) -> LineageEdge:
    """The lineage of what was trained on a data set: verified, since we did it."""
    return LineageEdge(
        child=child,
        parent=dataset,
        parent_revision=revision,
        relation=Relation.TRAINED_ON,
        status=EdgeStatus.VERIFIED,
        asserted_by="ecotone tuning",
        evidence=f"trained on revision {revision}",
    )


def _rows(catalog: Catalog, storage: Storage, model: Model, revision: Revision) -> Iterator[bytes | None]:
    """Rows, None for lines that are none."""
    for path, file in sorted(catalog.manifest(revision).items()):
        if not path.endswith(".jsonl"):
            continue
        rest = b""
        for piece in storage.read(file.content):
            *whole, rest = (rest + bytes(piece)).split(b"\n")
            if len(rest) > MOST_BYTES:
                raise NotTunable(f"{path} of {model.id} has a row that is too long.", param="dataset")
            yield from (_row(line) for line in whole if line)
        if rest:
            yield _row(rest)


def _row(line: bytes) -> bytes | None:
    """The messages of a line as a row of their own."""
    try:
        found = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    messages = found.get("messages") if isinstance(found, dict) else None
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        return None
    kept = [{name: m[name] for name in _KEPT if name in m} for m in messages]
    return msgspec.json.encode({"messages": kept}) + b"\n" if kept else None
