"""Files of a revision: folders, and previews of small texts. Bytes themselves go out through the hub's addresses."""

from dataclasses import dataclass
from urllib.parse import quote

from starlette.responses import Response

from ecotone.catalog import EntryNotFound, File, Revision
from ecotone.web.endpoint import Visit, address

MOST_PREVIEW_BYTES = 64 * 1024
MOST_PREVIEW_LINES = 1500
MOST_ENTRIES = 500


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a folder. `size` is None for folders."""

    name: str
    path: str
    size: int | None
    is_large: bool = False


def entries_of(files: list[File], folder: str) -> list[Entry]:
    """What lies directly in a folder, folders first, each with the sum of what is in it."""
    start = f"{folder}/" if folder else ""
    folders: dict[str, int] = {}
    here: list[Entry] = []
    for file in files:
        if not file.path.startswith(start):
            continue
        name, slash, _ = file.path[len(start) :].partition("/")
        if slash:
            folders[name] = folders.get(name, 0) + file.content.size
        else:
            here.append(Entry(name, file.path, file.content.size, file.content.kind != "git"))
    return [Entry(name, start + name, None) for name in sorted(folders)] + here


def tree(visit: Visit) -> Response:
    """GET /{id}/tree/{rev}[/{path}]"""
    model = visit.stored_model()
    revision = visit.catalog.revision(model, visit.path["rev"])
    folder = visit.path.get("path", "").strip("/")
    found = entries_of(visit.catalog.files(revision), folder)
    if folder and not found:
        raise EntryNotFound(model.id, folder, revision.id)
    return visit.page(
        "tree.html",
        model=model,
        here_path=visit.root + address(model),
        revision=revision,
        rev=visit.path["rev"],
        refs=visit.catalog.refs(model),
        trail=trail(folder),
        entries=found[:MOST_ENTRIES],
        left_out=max(0, len(found) - MOST_ENTRIES),
    )


def blob(visit: Visit) -> Response:
    """GET /{id}/blob/{rev}/{path}"""
    model = visit.stored_model()
    revision = visit.catalog.revision(model, visit.path["rev"])
    file = visit.catalog.file(revision, visit.path["path"])
    visit.catalog.check_gate(model, visit.actor)
    text, is_whole = preview(visit, file)
    return visit.page(
        "blob.html",
        model=model,
        here_path=visit.root + address(model),
        revision=revision,
        rev=visit.path["rev"],
        file=file,
        trail=trail(file.path),
        text=text,
        is_whole=is_whole,
        download=download(visit, address(model), revision, file.path),
    )


def download(visit: Visit, page: str, revision: Revision, path: str) -> str:
    return f"{visit.root}{page}/resolve/{revision.id}/{quote(path, safe='/')}"


def preview(visit: Visit, file: File) -> tuple[str | None, bool]:
    """The beginning of a file as text (None when it is not text), and whether that is all of it."""
    if file.content.size == 0:
        return "", True
    end = min(file.content.size, MOST_PREVIEW_BYTES)
    data = b"".join(visit.services.storage.read(file.content, 0, end))
    text = as_text(data)
    if text is None:
        return None, False
    lines = text.splitlines(keepends=True)
    return "".join(lines[:MOST_PREVIEW_LINES]), end == file.content.size and len(lines) <= MOST_PREVIEW_LINES


def as_text(data: bytes) -> str | None:
    """Bytes as text when they are UTF-8 (a character cut at the end is left out) without control characters."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3 or error.reason != "unexpected end of data":
            return None
        text = data[: error.start].decode()
    if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text):
        return None
    return text.replace("\r\n", "\n")


def trail(path: str) -> list[tuple[str, str]]:
    """Each part of a path with the path up to it."""
    parts = [part for part in path.split("/") if part]
    return [(part, "/".join(parts[: i + 1])) for i, part in enumerate(parts)]
