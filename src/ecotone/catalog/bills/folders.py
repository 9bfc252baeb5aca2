"""A hub folder on this machine as a bill: its card, licence files, weights and what the starter catalogue knows above.

Needs no server and no database. Links to files are followed as far as the blobs of a hub client's cache, never out of
the folder otherwise; links to folders are not. A folder of such a cache tells its id and revision by its path.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from ecotone.catalog.bills.cards import model_facts, role_of
from ecotone.catalog.bills.starter import family_above
from ecotone.catalog.cards import parse
from ecotone.catalog.entities import LineageEdge
from ecotone.catalog.errors import BadCard
from ecotone.licences import KnowledgeBase, Node, identify
from ecotone.licences.bom.facts import Bill, FilePart, Licensing, Work, bill_of, plain, why_unknown
from ecotone.licences.detection import conclude, of_the_work, speaks
from ecotone.licences.detection.reading import Unreadable
from ecotone.licences.duties import Folder
from ecotone.licences.openness import Openness
from ecotone.licences.openness_folder import rate_folder
from ecotone.lineage import (
    BrokenWeights,
    TooManyTensors,
    Weights,
    declared_edges,
    parameters,
    read_gguf,
    read_safetensors,
)
from ecotone.vocabulary import Invalid

MOST_FILES = 2000
_MOST_TEXT = 4 * 1024 * 1024
_PIECE = 1024 * 1024
_SKIPPED = frozenset({".git", ".cache", "__pycache__", ".venv", "node_modules"})
_CACHE = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})/?$")
_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?)(?:@([\w.-]{1,100}))?")


class _Folder(msgspec.Struct, frozen=True, kw_only=True):
    """What was read of a folder."""

    name: str
    revision: str | None
    hub: str | None
    paths: tuple[str, ...]
    card: dict[str, Any]
    text: str
    config: dict[str, Any]
    adapter: dict[str, Any] | None
    licensing: Licensing


def bill_of_folder(folder: Path, knowledge: KnowledgeBase, *, name: str | None = None) -> Bill:
    """The bill of a folder; every file is hashed.

    Args:
        folder: with weights, `README.md` and what else a hub keeps of a model.
        knowledge: the entries.
        name: `namespace/name@revision`, where the folder's own name does not tell it.

    Raises:
        Invalid: the folder cannot be read or holds too many files, or the name is none.
    """
    found = _read(folder, knowledge, name)
    files = tuple(_part(folder, path) for path in found.paths)
    weights = [p for p in found.paths if role_of(p, False) == "weights"]
    headers = _headers(folder, weights)
    counts = parameters(headers) if headers and len(headers) == len(weights) else None
    facts = {"total": counts.total, "parameters": counts.by_dtype} if counts else None
    subject = Work(
        id=found.name,
        revision=found.revision,
        hub=found.hub,
        licensing=found.licensing,
        files=files,
        model=model_facts(found.card, found.text, found.config, facts),
        source="the folder's card, licence files and weights",
    )
    edges = [
        LineageEdge(
            child=found.name,
            parent=e.parent,
            parent_revision=e.revision,
            relation=e.relation,
            asserted_by="model card" if e.field != "adapter_config.json" else e.field,
            evidence=f"field {e.field}" + (", relation inferred" if e.inferred else ""),
        )
        for e in declared_edges(found.card, adapter_config=found.adapter)
    ]
    node = Node(found.name, revision=found.revision, instruments=found.licensing.concluded)
    family, works, descents = family_above(node, edges)
    named = {e.parent.casefold() for e in edges}
    told = [
        msgspec.structs.replace(w, hub="") if w.id.casefold() in named and w.kind == "weights" else w for w in works
    ]
    known = {w.id for w in told}
    told += [
        Work(
            id=i, kind=n.kind, hub="", licensing=Licensing(concluded=n.instruments, reason=_UNTOLD), source="named here"
        )
        for i, n in family.nodes.items()
        if i not in known and i != found.name
    ]
    return bill_of(family, [subject, *told], descents)


_UNTOLD = "nothing is known here about its licence"


def openness_of_folder(folder: Path, knowledge: KnowledgeBase, *, name: str | None = None) -> Openness:
    """The class of a folder in the Model Openness Framework. Raises Invalid as `bill_of_folder` does."""
    found = _read(folder, knowledge, name)
    return rate_folder(
        found.name, found.paths, found.card, found.text, found.config, found.licensing.concluded, knowledge
    )


def _read(folder: Path, knowledge: KnowledgeBase, name: str | None) -> _Folder:
    paths = tuple(sorted(_paths(folder)))
    if not paths:
        raise Invalid(f"{folder} holds no files; the folder of a model is expected.", param="model")
    card, text, problem = _card(folder, paths)
    told, revision, hub = _name(folder, name)
    detected = of_the_work(paths, lambda path, most: _bytes(folder / path, most), knowledge)
    declared = identify(knowledge, card)
    conclusion = conclude(knowledge, declared, detected)
    conflicts = [*declared.conflicts, *(c["reason"] for c in conclusion.conflicts), *([problem] if problem else [])]
    link = card.get("license_link")
    licensing = Licensing(
        declared=declared.declared,
        concluded=conclusion.concluded,
        detected=conclusion.detected,
        reason="; ".join(conflicts) or why_unknown(conclusion.concluded, declared.declared),
        link=link.strip() if isinstance(link, str) and len(link) < 500 else None,
    )
    config = _json(folder, "config.json", paths)
    adapter = _json(folder, "adapter_config.json", paths) if "adapter_config.json" in paths else None
    return _Folder(
        name=told,
        revision=revision,
        hub=hub,
        paths=paths,
        card=card,
        text=text,
        config=config,
        adapter=adapter,
        licensing=licensing,
    )


def _name(folder: Path, name: str | None) -> tuple[str, str | None, str | None]:
    """Id, revision and hub: as told, as a cache's path says, else the folder's own name."""
    if name is not None:
        matched = _ID.fullmatch(name)
        if matched is None:
            raise Invalid(f"{name[:200]!r} is no name: namespace/name@revision is expected.", param="name")
        return matched[1], matched[2], None
    cached = _CACHE.search(folder.absolute().as_posix())
    if cached is not None:
        return f"{cached[1]}/{cached[2]}", cached[3], ""
    return plain(folder.resolve().name, 200) or "unnamed", None, None


def _paths(folder: Path) -> Iterator[str]:
    count = 0
    try:
        bundle = Folder(folder)
    except Unreadable as reason:
        raise Invalid(f"{folder} cannot be read: {reason}.", param="model") from None
    for at, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(f for f in folders if f not in _SKIPPED and not Path(at, f).is_symlink())
        for name in sorted(names):
            path = Path(at, name).relative_to(folder)
            if bundle.holds(path):
                count += 1
                if count > MOST_FILES:
                    raise Invalid(f"{folder} holds more than {MOST_FILES:,} files; a model's folder is expected.")
                yield path.as_posix()


def _unreadable(error: OSError) -> None:
    raise Invalid(f"{error.filename} cannot be read: {error.strerror}.", param="model")


def _bytes(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(most)
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.", param="model") from None


def _card(folder: Path, paths: tuple[str, ...]) -> tuple[dict[str, Any], str, str | None]:
    if "README.md" not in paths:
        return {}, "", None
    raw = _bytes(folder / "README.md", _MOST_TEXT).decode("utf-8", "replace")
    try:
        card, text = parse(raw)
    except BadCard as error:
        return {}, "", error.message
    return card, text, None


def _json(folder: Path, name: str, paths: tuple[str, ...]) -> dict[str, Any]:
    if name not in paths:
        return {}
    try:
        found = json.loads(_bytes(folder / name, _MOST_TEXT))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _part(folder: Path, path: str) -> FilePart:
    digest, size = hashlib.sha256(), 0
    try:
        with (folder / path).open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
    except OSError as error:
        raise Invalid(f"{folder / path} cannot be read: {error.strerror}.", param="model") from None
    return FilePart(path=path, sha256=digest.hexdigest(), size=size, role=role_of(path, speaks(path)))


def _headers(folder: Path, paths: list[str]) -> list[Weights]:
    """Headers of the weight files that tell their parameters; what is broken tells none."""
    found = []
    for path in paths:
        reader = {"safetensors": read_safetensors, "gguf": read_gguf}.get(path.rpartition(".")[2].lower())
        if reader is None:
            continue
        try:
            with (folder / path).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                found.append(reader(iter(lambda file=file: file.read(_PIECE), b""), size))  # type: ignore[misc]
        except (OSError, BrokenWeights, TooManyTensors):
            continue
    return found
