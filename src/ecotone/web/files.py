"""Files of a revision: folders, single files, pictures. Bytes to keep go out through the hub's addresses."""

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from starlette.responses import Response

from ecotone.catalog import EntryNotFound, File, Model, Refs, Revision
from ecotone.web.endpoint import Visit, address
from ecotone.web.previews import picture_type, previewed, rendered
from ecotone.web.repository import head, may_write

MOST_ENTRIES = 500
_READMES = ("readme.md",)
PICTURE_HEADERS = {
    "content-disposition": "inline",
    "content-security-policy": "default-src 'none'; sandbox",
    "cross-origin-resource-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cache-control": "private, no-cache",
    "vary": "Cookie, Authorization",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a folder. `size` is None for folders; `kind` is git, lfs or xet."""

    name: str
    path: str
    size: int | None
    is_large: bool = False
    kind: str = "git"
    sha256: str | None = None
    last_commit: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """An entry with the commit that changed it last."""

    entry: Entry
    title: str
    date: datetime | None


def entries_of(files: list[File], folder: str) -> list[Entry]:
    """What lies directly in a folder, folders first."""
    start = f"{folder}/" if folder else ""
    folders: dict[str, None] = {}
    here: list[Entry] = []
    for file in files:
        if not file.path.startswith(start):
            continue
        name, slash, _ = file.path[len(start) :].partition("/")
        if slash:
            folders[name] = None
        else:
            content = file.content
            large = content.kind != "git"
            here.append(Entry(name, file.path, content.size, large, content.kind, content.sha256, file.last_commit))
    return [Entry(name, start + name, None) for name in sorted(folders)] + here


def tree(visit: Visit) -> Response:
    """GET /{id}/tree/{rev}[/{path}]?start=N"""
    model = visit.stored_model()
    rev = visit.path["rev"]
    revision = visit.catalog.revision(model, rev)
    folder = visit.path.get("path", "").strip("/")
    files = visit.catalog.files(revision)
    found = entries_of(files, folder)
    if folder and not found:
        raise EntryNotFound(model.id, folder, revision.id)
    raw = visit.query.get("start", "")
    start = int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 7 else 0
    refs = visit.catalog.refs(model)
    return visit.page(
        "tree.html",
        **place(visit, model, rev, refs),
        revision=revision,
        folder=folder,
        trail=trail(folder),
        rows=_rows(visit, model, revision, found[start : start + MOST_ENTRIES]),
        count=len(found),
        previous=max(0, start - MOST_ENTRIES) if start else None,
        following=start + MOST_ENTRIES if len(found) > start + MOST_ENTRIES else None,
        clone_url=visit.services.settings.base_url + address(model),
        readme=None if start else _readme(visit, model, revision, found),
    )


def _rows(visit: Visit, model: Model, revision: Revision, entries: list[Entry]) -> list[Row]:
    last = {entry.path: entry.last_commit for entry in entries}
    if any(entry.size is None for entry in entries):
        last |= {f.path: f.last_commit for f in visit.catalog.folders(revision) if f.path in last}
    known = visit.catalog.titles(model, last.values())
    return [Row(entry, *known.get(last[entry.path], ("", None))) for entry in entries]


def _readme(visit: Visit, model: Model, revision: Revision, entries: list[Entry]) -> object:
    named = next((e for e in entries if e.size is not None and e.name.lower() in _READMES), None)
    if named is None or not visit.catalog.passes_gate(model, visit.actor):
        return None
    file = visit.catalog.file(revision, named.path)
    return rendered(visit.services.storage, visit.root + address(model), revision, file)


def blob(visit: Visit) -> Response:
    """GET /{id}/blob/{rev}/{path}[?plain=1]"""
    model = visit.stored_model()
    rev = visit.path["rev"]
    revision = visit.catalog.revision(model, rev)
    file = visit.catalog.file(revision, visit.path["path"])
    visit.catalog.check_gate(model, visit.actor)
    page = visit.root + address(model)
    title, date = visit.catalog.titles(model, [file.last_commit]).get(file.last_commit, ("", None))
    return visit.page(
        "blob.html",
        **place(visit, model, rev, visit.catalog.refs(model)),
        revision=revision,
        file=file,
        trail=trail(file.path),
        preview=previewed(visit.services.storage, page, revision, file, plain="plain" in visit.query),
        last_title=title,
        last_date=date,
        download=download(visit, address(model), revision, file.path),
    )


def picture(visit: Visit) -> Response:
    """GET /{id}/picture/{rev}/{path}: a small PNG, JPEG, GIF or WebP file; opened alone, it is in a sandbox."""
    model = visit.stored_model()
    revision = visit.catalog.revision(model, visit.path["rev"])
    file = visit.catalog.file(revision, visit.path["path"])
    visit.catalog.check_gate(model, visit.actor)
    kind = picture_type(visit.services.storage, file)
    if kind is None:
        raise EntryNotFound(model.id, file.path, revision.id)
    data = b"".join(visit.services.storage.read(file.content))
    return Response(data, headers=PICTURE_HEADERS, media_type=kind)


def place(visit: Visit, model: Model, rev: str, refs: Refs, current: str = "files") -> dict[str, object]:
    """What the pages of a repository's files share: its head, the revision by name, and what the visitor may do."""
    branch = next((ref.name for ref in refs.branches if ref.name == rev), None)
    return head(visit, model, current, rev=rev, refs=refs) | {
        "rev": rev,
        "refs": refs,
        "branch": branch,
        "may_write": branch is not None and may_write(visit, model),
    }


def download(visit: Visit, page: str, revision: Revision, path: str) -> str:
    return f"{visit.root}{page}/resolve/{revision.id}/{quote(path, safe='/')}"


def trail(path: str) -> list[tuple[str, str]]:
    """Each part of a path with the path up to it."""
    parts = [part for part in path.split("/") if part]
    return [(part, "/".join(parts[: i + 1])) for i, part in enumerate(parts)]
