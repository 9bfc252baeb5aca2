"""Commits of a repository, and what one commit changed."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.responses import Response

from ecotone.catalog import File, Revision, RevisionNotFound
from ecotone.catalog.differences import Difference, Differences, compare
from ecotone.catalog.names import is_sha
from ecotone.web.endpoint import Visit
from ecotone.web.files import place
from ecotone.web.repository import head

PAGE_SIZE = 50
MOST_SHOWN = 300
OPEN_LINES = 120
MOST_SHOWN_LINES = 4000
MOST_SHOWN_CHARACTERS = 600_000
MOST_LINE = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """A file that differs, and whether its lines stand open at once; `is_left_out` when the page is long already."""

    difference: Difference
    is_open: bool
    is_left_out: bool


def commits(visit: Visit) -> Response:
    """GET /{id}/commits/{rev}?from=COMMIT"""
    model = visit.stored_model()
    rev = visit.path["rev"]
    at = visit.query.get("from", "")
    found = visit.catalog.commits(model, at if is_sha(at) else rev, limit=PAGE_SIZE + 1)
    return visit.page(
        "commits.html",
        **place(visit, model, rev, visit.catalog.refs(model), "commits"),
        commits=found[:PAGE_SIZE],
        older=found[PAGE_SIZE].id if len(found) > PAGE_SIZE else None,
        is_first=not is_sha(at),
    )


def commit(visit: Visit) -> Response:
    """GET /{id}/commit/{oid}"""
    model = visit.stored_model()
    if not is_sha(visit.path["rev"]):
        raise RevisionNotFound(model.id, visit.path["rev"])
    revision = visit.catalog.revision(model, visit.path["rev"])
    parent = visit.catalog.revision(model, revision.parents[0]) if revision.parents else None
    may_read = visit.catalog.passes_gate(model, visit.actor)
    changes, left_out = _changes(visit, revision, parent, may_read)
    return visit.page(
        "commit.html",
        **head(visit, model, "commits"),
        revision=revision,
        parent=parent,
        changes=changes,
        left_out=left_out,
        shows_hashes=may_read,
        most_line=MOST_LINE,
    )


def _changes(visit: Visit, revision: Revision, parent: Revision | None, may_read: bool) -> tuple[list[Change], int]:
    before = visit.catalog.manifest(parent) if parent is not None else {}
    found = compare(before, visit.catalog.manifest(revision), reading(visit) if may_read else None)
    return shown_changes(found)


def reading(visit: Visit) -> Callable[[File], bytes]:
    """How a comparison gets at the bytes of files."""

    def read(file: File) -> bytes:
        return b"".join(visit.services.storage.read(file.content))

    return read


def shown_changes(found: Differences) -> tuple[list[Change], int]:
    """The files of a comparison as a page shows them, and how many are left out."""
    changes = []
    lines = characters = 0
    for difference in found.files[:MOST_SHOWN]:
        own = [line for hunk in difference.hunks or () for line in hunk.lines]
        lines += len(own)
        characters += sum(min(len(line.text), MOST_LINE) for line in own)
        is_left_out = lines > MOST_SHOWN_LINES or characters > MOST_SHOWN_CHARACTERS
        changes.append(Change(difference, len(own) <= OPEN_LINES, is_left_out))
    return changes, found.left_out + max(0, len(found.files) - MOST_SHOWN)
