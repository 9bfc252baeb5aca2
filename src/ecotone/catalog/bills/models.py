"""A model of the catalogue as a bill: a revision with its files, card, measurements and family as the asker sees it."""

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from ecotone.accounts import Actor
from ecotone.catalog.bills.cards import measured, model_facts, role_of
from ecotone.catalog.bills.starter import descent_of, known_starter, starter_work
from ecotone.catalog.entities import File, Model, Revision
from ecotone.catalog.errors import ModelNotFound
from ecotone.catalog.families import starter_edges
from ecotone.catalog.services import Catalog
from ecotone.licences import Family, KnowledgeBase
from ecotone.licences.bom.checking import KnownModel
from ecotone.licences.bom.facts import DATASETS, OF_DATA, Bill, FilePart, Licensing, Work, bill_of, why_unknown
from ecotone.licences.detection import speaks
from ecotone.licences.openness import Openness
from ecotone.licences.openness_folder import licence_of, rate_folder
from ecotone.vocabulary import EcotoneError, RepoType

MOST_FILES = 2000
_MOST_READ = 1024 * 1024
_MOST_READ_FILES = 200
Read = Callable[[File], Iterable[bytes | memoryview]]


def bill_of_model(
    catalog: Catalog, knowledge: KnowledgeBase, model_id: str, rev: str, *, viewer: Actor, hub: str, read: Read
) -> Bill:
    """The bill of a model at a revision; of the starter catalogue's entry where nothing was published under its id.

    Args:
        catalog: where the model is.
        knowledge: the entries.
        model_id: `namespace/name`.
        rev: a branch, tag or commit.
        viewer: who asks; what he may not see binds without a name.
        hub: address of this server.
        read: bytes of a small file.

    Raises:
        ModelNotFound, RevisionNotFound: there is none that the viewer may see.
    """
    model = catalog.model(model_id, viewer=viewer)
    revision = catalog.revision(model, rev) if model.head is not None else None
    family = catalog.family(model, revision, viewer=viewer)
    subject = _published(catalog, model, revision, viewer, hub, read) if revision else _entry(model)
    edges = catalog.told_edges(catalog.parents(model, revision), viewer)
    descents = [descent_of(e, model.id, _node(family, e.parent, e.relation in OF_DATA)) for e in edges]
    others = [_other(catalog, node_id, viewer, hub) for node_id, n in family.nodes.items() if n.visible]
    bound = [w for w in others if w is not None and w.id != model.id]
    return bill_of(family, [subject, *(_bound(w, family) for w in bound)], descents)


def _node(family: Family, parent: str, dataset: bool) -> str:
    """The id under which a family holds an edge's parent."""
    wanted = (DATASETS if dataset else "") + parent
    return next((i for i in family.nodes if i.casefold() == wanted.casefold()), wanted)


def _bound(work: Work, family: Family) -> Work:
    """A work with what binds it in this family, which may be an older revision's licence."""
    node = family.node(work.id)
    reason = why_unknown(node.instruments, work.licensing.declared)
    licensing = msgspec.structs.replace(work.licensing, concluded=node.instruments, reason=reason)
    return msgspec.structs.replace(work, licensing=licensing, revision=node.revision or work.revision)


def _published(catalog: Catalog, model: Model, revision: Revision, viewer: Actor, hub: str, read: Read) -> Work:
    """A revision as a work; files and hashes of a gated one are for those whom its gate lets in."""
    open_to_viewer = catalog.passes_gate(model, viewer)
    conflicts = [f.removeprefix("Licence: ") for f in revision.findings if f.startswith("Licence: ")]
    link = revision.card.get("license_link")
    licensing = Licensing(
        declared=revision.declared_licence,
        concluded=revision.instruments,
        detected=revision.detected,
        reason="; ".join(conflicts) or why_unknown(revision.instruments, revision.declared_licence),
        link=link.strip() if isinstance(link, str) and len(link) < 500 else None,
    )
    facts = model_facts(revision.card, revision.card_text, revision.config, revision.weights)
    audits = [m for kept in catalog.measurements(model.id, revision.id) for m in measured(kept.suite, kept.result)]
    return Work(
        id=model.id,
        revision=revision.id,
        hub=hub,
        released=_moment(revision.date),
        licensing=licensing,
        files=_parts(catalog.files(revision), read) if open_to_viewer else (),
        model=msgspec.structs.replace(facts, metrics=(*facts.metrics, *audits)),
        source="this hub" if open_to_viewer else "this hub; its files are behind a gate and not listed",
    )


def _entry(model: Model) -> Work:
    return starter_work(model.id) or Work(id=model.id, licensing=_licensing(model.licence, model.instruments))


def _other(catalog: Catalog, node_id: str, viewer: Actor, hub: str) -> Work | None:
    """What is known of a parent: from this hub, else from the starter catalogue; None where nothing is."""
    dataset = node_id.startswith(DATASETS)
    name = node_id.removeprefix(DATASETS)
    try:
        found = catalog.model(name, viewer=viewer, repo_type=RepoType.DATASET if dataset else RepoType.MODEL)
    except ModelNotFound:
        named = starter_work(name) if not dataset else None
        kind = "dataset" if dataset else "weights"
        return named or Work(
            id=node_id, kind=kind, hub="", licensing=_licensing(None, ("unknown",)), source="named here"
        )
    if found.head is None:
        return starter_work(found.id) or _entry(found)
    return Work(
        id=node_id,
        kind="dataset" if dataset else "weights",
        revision=found.head,
        hub=hub,
        released=_moment(found.updated),
        licensing=_licensing(found.licence, found.instruments),
        source="this hub",
    )


def _licensing(declared: str | None, instruments: tuple[str, ...]) -> Licensing:
    return Licensing(declared=declared, concluded=instruments, reason=why_unknown(instruments, declared))


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _parts(files: list[File], read: Read) -> tuple[FilePart, ...]:
    """Files with their hashes: large ones carry it, small ones are read; what cannot be read is left out."""
    found, count = [], 0
    for file in files[:MOST_FILES]:
        digest = file.content.sha256
        if digest is None and file.content.size <= _MOST_READ and count < _MOST_READ_FILES:
            count += 1
            try:
                digest = hashlib.sha256(b"".join(bytes(p) for p in read(file))).hexdigest()
            except EcotoneError:
                continue
        if digest is not None:
            role = role_of(file.path, speaks(file.path))
            found.append(FilePart(path=file.path, sha256=digest, size=file.content.size, role=role))
    return tuple(found)


def openness_of_model(
    catalog: Catalog, knowledge: KnowledgeBase, model_id: str, rev: str, *, viewer: Actor
) -> Openness:
    """The class of a model of the catalogue; data sets that lie here are taken with their licence."""
    model = catalog.model(model_id, viewer=viewer)
    revision = catalog.revision(model, rev) if model.head is not None else None
    if revision is None:
        return rate_folder(model.id, (), {}, "", {}, model.instruments, knowledge)
    data = {
        e.parent: _dataset_licence(catalog, knowledge, e.parent, viewer)
        for e in revision.edges
        if e.relation in OF_DATA
    }
    return rate_folder(
        model.id,
        [f.path for f in catalog.files(revision)],
        revision.card,
        revision.card_text,
        revision.config,
        revision.instruments,
        knowledge,
        others={name: licence for name, licence in data.items() if licence},
    )


def _dataset_licence(catalog: Catalog, knowledge: KnowledgeBase, name: str, viewer: Actor) -> str | None:
    try:
        return licence_of(knowledge, catalog.model(name, viewer=viewer, repo_type=RepoType.DATASET).instruments)
    except ModelNotFound:
        return None


def known_model(catalog: Catalog, *, viewer: Actor) -> Callable[[str, str | None], KnownModel | None]:
    """What documents are checked against: models of this hub that the viewer may see, and the starter catalogue."""

    def look_up(model_id: str, rev: str | None) -> KnownModel | None:
        try:
            model = catalog.model(model_id, viewer=viewer)
        except EcotoneError:
            return known_starter(model_id)
        if model.head is None:
            return known_starter(model.id)
        try:
            revision = catalog.revision(model, rev or "main")
        except EcotoneError:  # a revision of another hub
            return known_starter(model.id)
        seen = catalog.family(model, revision, viewer=viewer)
        hidden = {n.id.casefold() for n in seen.nodes.values() if not n.visible}
        edges: list[Any] = [*revision.edges, *starter_edges(model)]
        told = dict.fromkeys(e.parent for e in edges if e.relation not in OF_DATA)
        parents = tuple(p for p in told if p.casefold() not in hidden and p.count("/") == 1)
        return KnownModel(id=model.id, instruments=revision.instruments, parents=parents, source="this hub")

    return look_up
