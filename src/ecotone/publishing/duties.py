"""What a revision of the catalogue owes by its family's licences, with texts and notices from the files in the hub."""

from collections.abc import Mapping
from typing import Any

import msgspec

from ecotone.accounts import Actor
from ecotone.catalog import Catalog, File
from ecotone.licences import Family, Use
from ecotone.licences.detection.reading import Unreadable
from ecotone.licences.duties import LARGEST_TEXT, Bundle, Duties, Loose, Material, notice_texts, owing, text_of
from ecotone.policy import Policy
from ecotone.storage import Storage
from ecotone.vocabulary import EcotoneError

_MOST_PARENTS = 16


class RevisionFiles:
    """The files of a revision as a bundle."""

    def __init__(self, files: Mapping[str, File], storage: Storage) -> None:
        self._files, self._storage = files, storage

    def paths(self) -> tuple[str, ...]:
        return tuple(sorted(self._files))

    def text(self, path: str) -> str:
        found = self._files.get(path)
        if found is None:
            raise Unreadable("no such file")
        if found.content.size > LARGEST_TEXT:
            raise Unreadable(f"{found.content.size:,} bytes, more than the {LARGEST_TEXT:,} that are read of a text")
        try:
            return text_of(b"".join(self._storage.read(found.content, 0, found.content.size)))
        except EcotoneError as error:
            raise Unreadable(error.message) from None


class RevisionDuties:
    """Duties of models of the catalogue.

    Args:
        catalog: where the models are.
        storage: where their files are.
        policy: whose positions, agreements and concluded licences count.
    """

    def __init__(self, catalog: Catalog, storage: Storage, policy: Policy) -> None:
        self._catalog, self._storage, self._policy = catalog, storage, policy

    def of(self, model_id: str, rev: str, use: Use, *, viewer: Actor) -> tuple[Duties, Bundle]:
        """What a revision owes under a use, and its files.

        Files of parents that the viewer may not read are not used: what would be copied from them stays open.

        Raises:
            ModelNotFound, RevisionNotFound: also for what the viewer may not see.
            GatedRepo: the viewer may not have the files.
        """
        model = self._catalog.model(model_id, viewer=viewer)
        self._catalog.check_gate(model, viewer)
        revision = self._catalog.revision(model, rev) if model.head is not None else None
        stance = self._policy.stance()
        family = stance.family(self._catalog.family(model, revision, viewer=viewer))
        files: dict[str, Bundle] = self._files_of(family, viewer)
        own: Bundle = Loose({})
        if revision is not None:
            own = files[family.subject] = RevisionFiles(self._catalog.manifest(revision), self._storage)
        family = _with_notices(family, files)
        variables = {"name": model.name} | use.variables
        declared = revision.declared_licence if revision is not None else model.licence
        named = msgspec.structs.replace(use, variables=variables)
        found = owing(stance.knowledge, family, named, stance.positions, declared=declared)
        return Duties(stance.knowledge, found, Material(files), declared=declared), own

    def _files_of(self, family: Family, viewer: Actor) -> dict[str, Bundle]:
        found: dict[str, Bundle] = {}
        for node in family.nodes.values():
            if node.id == family.subject or not node.visible or node.kind != "weights" or node.revision is None:
                continue
            if len(found) >= _MOST_PARENTS:
                break
            try:
                model = self._catalog.model(node.id, viewer=viewer)
                self._catalog.check_gate(model, viewer)
                revision = self._catalog.revision(model, node.revision)
                found[node.id] = RevisionFiles(self._catalog.manifest(revision), self._storage)
            except EcotoneError:  # deleted, or behind a gate: its texts are not ours to copy
                continue
        return found


def _with_notices(family: Family, files: Mapping[str, Bundle]) -> Family:
    """The family with what the files tell of each work: whether it ships a NOTICE."""
    nodes: dict[str, Any] = dict(family.nodes)
    for node_id, bundle in files.items():
        node = family.node(node_id)
        facts = {**node.facts, "parent_has_notice_file": bool(notice_texts(bundle))}
        nodes[node_id] = msgspec.structs.replace(node, facts=facts)
    return msgspec.structs.replace(family, nodes=nodes)
