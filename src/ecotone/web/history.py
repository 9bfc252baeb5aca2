"""Commits of a repository, and what one commit changed."""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from starlette.responses import Response

from ecotone.catalog import File, Revision, RevisionNotFound
from ecotone.catalog.names import is_sha
from ecotone.vocabulary import Forbidden
from ecotone.web.endpoint import Visit, address
from ecotone.web.files import as_text

PAGE_SIZE = 50
MOST_CHANGES = 200
MOST_DIFF_BYTES = 48 * 1024
MOST_DIFF_LINES = 600
MOST_DIFFED_LINES = 2000
MOST_DIFFS = 40


@dataclass(frozen=True, slots=True)
class Change:
    """A file that a commit added, changed or removed; `lines` is its diff, None where none is shown."""

    path: str
    what: str
    size: int
    lines: list[tuple[str, str]] | None = None


def commits(visit: Visit) -> Response:
    """GET /{id}/commits/{rev}?start=N"""
    model = visit.stored_model()
    raw = visit.query.get("start", "0")
    start = min(int(raw), 1_000_000) if raw.isascii() and raw.isdigit() and len(raw) < 9 else 0
    found = visit.catalog.commits(model, visit.path["rev"], start=start, limit=PAGE_SIZE + 1)
    return visit.page(
        "commits.html",
        model=model,
        here_path=visit.root + address(model),
        rev=visit.path["rev"],
        commits=found[:PAGE_SIZE],
        next_start=start + PAGE_SIZE if len(found) > PAGE_SIZE else None,
    )


def commit(visit: Visit) -> Response:
    """GET /{id}/commit/{oid}"""
    model = visit.stored_model()
    if not is_sha(visit.path["rev"]):
        raise RevisionNotFound(model.id, visit.path["rev"])
    revision = visit.catalog.revision(model, visit.path["rev"])
    parent = visit.catalog.revision(model, revision.parents[0]) if revision.parents else None
    try:
        visit.catalog.check_gate(model, visit.actor)
        may_read = True
    except Forbidden:
        may_read = False
    changes = list(_changes(visit, revision, parent, may_read))
    return visit.page(
        "commit.html",
        model=model,
        here_path=visit.root + address(model),
        revision=revision,
        parent=parent,
        changes=changes[:MOST_CHANGES],
        left_out=max(0, len(changes) - MOST_CHANGES),
    )


def _changes(visit: Visit, revision: Revision, parent: Revision | None, may_read: bool) -> Iterator[Change]:
    new = visit.catalog.manifest(revision)
    old = visit.catalog.manifest(parent) if parent is not None else {}
    budget, diffs = MOST_DIFF_LINES, 0
    for path in sorted({*new, *old}):
        before, after = old.get(path), new.get(path)
        if before is not None and after is not None and before.content.git_oid == after.content.git_oid:
            continue
        what = "added" if before is None else "removed" if after is None else "changed"
        shown = after or before
        assert shown is not None
        lines: list[tuple[str, str]] = []
        if may_read and budget > 0 and diffs < MOST_DIFFS and _is_small(before, after):
            lines = _diff(visit, before, after)[:budget]
            budget, diffs = budget - len(lines), diffs + 1
        yield Change(path, what, shown.content.size, lines or None)


def _is_small(*files: File | None) -> bool:
    return all(f is None or (f.content.kind == "git" and f.content.size <= MOST_DIFF_BYTES) for f in files)


def _diff(visit: Visit, before: File | None, after: File | None) -> list[tuple[str, str]]:
    """Lines of a unified diff with what each is: add, drop, place or same; empty for what is no text, or too long."""
    texts = []
    for file in (before, after):
        data = b"".join(visit.services.storage.read(file.content)) if file is not None and file.content.size else b""
        text = as_text(data)
        if text is None or text.count("\n") > MOST_DIFFED_LINES:
            return []
        texts.append(text.splitlines())
    marks = {"+": "add", "-": "drop", "@": "place"}
    lines = list(difflib.unified_diff(texts[0], texts[1], lineterm="", n=3))[2:]
    return [(marks.get(line[:1], "same"), line[:500]) for line in lines]
