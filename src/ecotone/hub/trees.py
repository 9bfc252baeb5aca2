"""Files of a revision: listings of folders and facts on single paths (protocol section 1.5)."""

import bisect
import unicodedata
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.routing import BaseRoute

from ecotone.catalog import EntryNotFound, File, Folder, Model, Revision
from ecotone.hub.endpoint import Call, answer, api_routes, form_fields
from ecotone.hub.infos import file_item, folder_item
from ecotone.hub.pages import page, unpack
from ecotone.vocabulary import TooLarge

PAGE = 1000
PAGE_EXPANDED = 100
MOST_PATHS = 1000


class Paths(msgspec.Struct):
    paths: list[str] | str = []
    expand: bool | str = False


def tree(call: Call) -> Any:
    """GET /api/{kind}/{id}/tree/{rev}[/{path}]"""
    model = call.model()
    place = unpack(call, tuple[str, str])  # of a commit: what is pushed meanwhile changes no page
    revision = call.catalog.revision(model, place[0] if place else call.path["rev"])
    folder = unicodedata.normalize("NFC", call.path.get("path", "")).strip("/")
    entries = _entries(call, revision, folder, recursive=call.flag("recursive"))
    if folder and not entries:
        raise EntryNotFound(model.id, folder, revision.id)
    expand = call.flag("expand")
    most = PAGE_EXPANDED if expand else PAGE
    limit = call.number("limit", most, most) or most
    if place is not None:
        entries = entries[bisect.bisect_right(entries, place[1], key=lambda entry: entry.path) :]
    rows = _items(call, model, entries[:limit], expand=expand)
    more = (revision.id, entries[limit - 1].path) if len(entries) > limit else None
    return page(call, rows, more=more, headers={"x-repo-commit": revision.id})


def _entries(call: Call, revision: Revision, folder: str, *, recursive: bool) -> list[File | Folder]:
    """Files and folders below `folder`, ordered by path."""
    prefix = f"{folder}/" if folder else ""
    everything: list[File | Folder] = [*call.catalog.files(revision), *call.catalog.folders(revision)]
    found = [
        entry
        for entry in everything
        if entry.path.startswith(prefix) and (recursive or "/" not in entry.path[len(prefix) :])
    ]
    return sorted(found, key=lambda entry: entry.path)


def _items(call: Call, model: Model, entries: Sequence[File | Folder], *, expand: bool) -> list[dict[str, Any]]:
    known = call.catalog.titles(model, (entry.last_commit for entry in entries)) if expand else {}
    hashes = call.catalog.passes_gate(model, call.actor)
    contents = [entry.content for entry in entries if isinstance(entry, File)] if hashes else []
    xet = call.services.storage.converted(model.namespace, contents)
    return [
        file_item(entry, known.get(entry.last_commit), hashes=hashes, xet_hash=xet.get(entry.content.sha256 or ""))
        if isinstance(entry, File)
        else folder_item(entry, known.get(entry.last_commit))
        for entry in entries
    ]


def paths_info(call: Call) -> Any:
    """POST /api/{kind}/{id}/paths-info/{rev}, as a form or as JSON"""
    model = call.model()
    revision = call.catalog.revision(model, call.path["rev"])
    if "json" in call.request.headers.get("content-type", ""):
        asked = call.json(Paths)
        paths = [asked.paths] if isinstance(asked.paths, str) else asked.paths
        expand = str(asked.expand).lower() in ("true", "1")
    else:
        fields = form_fields(call.body)
        paths = fields.get("paths", [])
        expand = (fields.get("expand") or ["false"])[0].lower() in ("true", "1")
    if len(paths) > MOST_PATHS:
        raise TooLarge(f"{len(paths)} paths were asked for; ask for {MOST_PATHS} at a time.")
    files = call.catalog.manifest(revision)
    wanted = [unicodedata.normalize("NFC", path).strip("/") for path in paths]
    folders = {}
    if any(path not in files for path in wanted):
        folders = {folder.path: folder for folder in call.catalog.folders(revision)}
    found = [entry for path in dict.fromkeys(wanted) if (entry := files.get(path) or folders.get(path)) is not None]
    return answer(_items(call, model, found, expand=expand), headers={"x-repo-commit": revision.id})


def routes() -> list[BaseRoute]:
    return [
        *api_routes("/tree/{rev}", {"GET": tree}),
        *api_routes("/tree/{rev}/{path:path}", {"GET": tree}),
        *api_routes("/paths-info/{rev}", {"POST": paths_info}),
    ]
