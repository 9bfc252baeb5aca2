"""Descent from weights, in publishing: fingerprints of a revision's files against those of a few candidates.

Done while a commit is judged, with what was kept when the files came; what takes long is left to a job (`examining`).
"""

import hashlib
import threading
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec

from ecotone.accounts import Actor
from ecotone.catalog import (
    BY_WEIGHTS,
    SAID,
    Catalog,
    File,
    Kin,
    LineageEdge,
    Model,
    RevisionNotFound,
    Said,
    WeightSet,
    unsettled,
)
from ecotone.licences import Node
from ecotone.lineage import Fingerprint
from ecotone.lineage.arriving import Print, Printing
from ecotone.lineage.comparing import Related, compare_prints
from ecotone.lineage.sketching import signature, sketch
from ecotone.publishing.candidates import candidates, thinned
from ecotone.publishing.contents import Contents
from ecotone.publishing.drafts import Making
from ecotone.publishing.kinship import (
    INFERRED,
    SEEN,
    Alarm,
    Match,
    alarms_in,
    alarms_of,
    edges_with,
    later,
    parents_among,
    relation_of,
    told_matches,
)
from ecotone.storage import GONE, Content, Storage
from ecotone.vocabulary import EdgeStatus, EdgeWord, RepoType

WEIGHTS: Final = (".safetensors", ".gguf")
MOST_CANDIDATES: Final = 8
MOST_DECLARED: Final = 4
MOST_COMPARING: Final = 2
MOST_INLINE: Final = 64
INLINE_BYTES: Final = 16 * 1024 * 1024
DONE, WAITING, EXAMINED, FAILED = "done", "waiting", "examined", "failed"
_MOST_FILES: Final = 2000
_MOST_SHARING: Final = 64
_MOST_FINDINGS: Final = 8


class Examined(msgspec.Struct, frozen=True, kw_only=True):
    """What a revision's weights add to its contents. `alarms` are for whoever reads of it."""

    contents: Contents
    weights: WeightSet | None = None
    alarms: tuple[Alarm, ...] = ()


class Looked(msgspec.Struct, frozen=True, kw_only=True):
    """What a look at the candidates gave."""

    matches: tuple[Match, ...]
    parents: tuple[Match, ...]
    ids: dict[str, int]
    alike: dict[tuple[int, int], bool]
    alarms: tuple[Alarm, ...]


class Descent:
    """The service. Thread-safe."""

    def __init__(self, catalog: Catalog, storage: Storage) -> None:
        self._catalog = catalog
        self._storage = storage
        self._comparing = threading.BoundedSemaphore(MOST_COMPARING)

    # -- a commit ----------------------------------------------------------------------------------------------------
    def examine(self, model: Model, making: Making, contents: Contents) -> Examined:
        """What the weights of a revision to be say of its descent.

        Weights that are the parent revision's are not looked at again, unless the card names other parents.
        """
        if model.repo_type is not RepoType.MODEL:
            return Examined(contents=contents)
        files = weight_files(making.made.files)
        contents = msgspec.structs.replace(contents, edges=tuple(unsettled(contents.edges)))
        if not files:
            return Examined(contents=_without_weights(contents))
        digest = digest_of(files)
        before = self._catalog.weights(model, making.base.id)
        before = before if before is not None and before.digest == digest else None
        based = unsettled(making.base.edges)
        if before is not None and _parents(contents.edges) == _parents(based):
            edges = _carried(contents.edges, based)
            alarms = tuple(self.standing(model, before))
            said = before.report.get("findings", ())
            return Examined(contents=_with(contents, edges, said), weights=before, alarms=alarms)
        own, missing, findings = self.fingerprint(files)
        if own is None:
            weights = placed(files, None, state=WAITING if missing else DONE)
            return Examined(contents=_with(contents, contents.edges, findings), weights=weights)
        looked = self.look(model, own, contents.edges, digest=digest, missing=bool(missing))
        asserted = [e for e in contents.edges if e.asserted_by != BY_WEIGHTS]
        edges = edges_with(model.id, asserted, looked.matches, looked.parents, looked.ids)
        if missing or before is not None:  # what a job found of these weights holds until one finds otherwise
            named = {edge.parent.casefold() for edge in edges}
            edges += [e for e in contents.edges if e.asserted_by == BY_WEIGHTS and e.parent.casefold() not in named]
        weights = self.weight_set(files, own, looked, findings, state=WAITING if missing or looked.matches else DONE)
        return Examined(contents=_with(contents, edges, findings), weights=weights, alarms=looked.alarms)

    def known(self, model: Model, making: Making, contents: Contents) -> Examined:
        """The same for files whose descent is known, such as those of a copy on this hub."""
        files = weight_files(making.made.files) if model.repo_type is RepoType.MODEL else {}
        if not files:
            return Examined(contents=contents)
        before = self._catalog.weights(model, making.base.id)
        if before is None or before.digest != digest_of(files):
            own, missing, _ = self.fingerprint(files)
            before = placed(files, own, state=WAITING if missing else DONE)
        return Examined(contents=contents, weights=before)

    # -- fingerprints ------------------------------------------------------------------------------------------------
    def fingerprint(self, files: Mapping[str, Content]) -> tuple[Fingerprint | None, list[str], list[str]]:
        """The fingerprint of files together, the paths of those that have none yet, and what was wrong with others."""
        whole: Fingerprint | None = None
        missing, findings = [], []
        largest_first = sorted(files.items(), key=lambda item: (-item[1].size, item[0]))
        for number, (path, content) in enumerate(largest_first):
            found = self.print_of(content, now=number < MOST_INLINE)
            if found is None:
                missing.append(path)
            elif found.fingerprint is None:
                if not path.endswith(".safetensors"):  # of safetensors, reading their totals has told it
                    findings.append(f"{path} is not a whole weight file: {found.broken}")
            else:
                findings += _odd(path, found.fingerprint)
                part = found.fingerprint if len(files) == 1 else thinned(found.fingerprint)
                whole = part if whole is None else thinned(whole.joined(part))
        return whole, missing, findings[:_MOST_FINDINGS]

    def print_of(self, content: Content, *, now: bool = True) -> Print | None:
        """What is kept of a file; taken now when it is small, None when it must be taken by a job.

        Args:
            now: whether it may be taken now.
        """
        name = name_of(content)
        found = self._storage.prints.of(name)
        if found is None and now and content.size <= INLINE_BYTES and content.kind != GONE:
            printing = Printing(content.size)
            for piece in self._storage.read(content):
                printing.feed(piece)
            found = printing.finish() or Print(None, "It begins like no weight file that is read here.")
            self._storage.prints.keep(name, found)
        return found

    def _joined(self, names: Iterable[str]) -> Fingerprint | None:
        whole: Fingerprint | None = None
        for name in names:
            found = self._storage.prints.of(name)
            if found is not None and found.fingerprint is not None:
                part = thinned(found.fingerprint)
                whole = part if whole is None else thinned(whole.joined(part))
        return whole

    # -- candidates --------------------------------------------------------------------------------------------------
    def look(
        self,
        model: Model,
        own: Fingerprint,
        edges: Iterable[LineageEdge],
        *,
        digest: str,
        since: datetime | None = None,
        missing: bool = False,
    ) -> Looked:
        """Compare a model's fingerprint with those of its candidates (checks 1 and 2).

        Args:
            digest: of its weights.
            since: when its weights came here; None for now.
            missing: whether a part of the weights is not known yet, so that nothing can be missed in them.
        """
        named = [e for e in edges if e.asserted_by != BY_WEIGHTS]
        declared, ids = self._declared(model, named)
        kins = self._candidates(model, own, declared)
        said = self._catalog.said_of_parents(model, digest)
        with self._comparing:
            return self._looked(model, thinned(own), named, kins, declared, ids, said, since=since, missing=missing)

    def _looked(
        self,
        model: Model,
        own: Fingerprint,
        named: list[LineageEdge],
        kins: list[Kin],
        declared: list[Kin],
        ids: dict[str, int],
        said: Mapping[int, Said],
        *,
        since: datetime | None,
        missing: bool,
    ) -> Looked:
        prints = {kin.model.key: self._joined(kin.weights.names) for kin in kins}
        keys = {kin.model.key for kin in declared}
        matches = tuple(
            self._match(
                model, own, kin, found, declared=kin.model.key in keys, said=said.get(kin.model.key), since=since
            )
            for kin in kins
            if (found := prints[kin.model.key]) is not None
        )
        alike = _alike(matches, prints) | self._of_one_line(matches)
        return self.concluded(model, named, matches, ids, alike, missing=missing)

    def _of_one_line(self, matches: Iterable[Match]) -> dict[tuple[int, int], bool]:
        """Related candidates of which one descends from the other, as far as their edges tell."""
        keys = {m.kin.model.id.casefold(): m.kin.model.key for m in matches if m.related}
        found = {}
        for match in matches:
            for ancestor in self._ancestors(match.kin) if match.related and len(keys) > 1 else ():
                other = keys.get(ancestor.casefold(), match.kin.model.key)
                if other != match.kin.model.key:
                    low, high = sorted((match.kin.model.key, other))
                    found[low, high] = True
        return found

    def _ancestors(self, kin: Kin) -> list[str]:
        try:
            edges = self._catalog.revision(kin.model, kin.revision).edges
        except RevisionNotFound:
            return []
        family = self._catalog.compose_family(Node(id=kin.model.id), [e for e in edges if e.relation in SEEN])
        held = [e for e in family.edges if e.status is not EdgeStatus.REFUTED]
        found, todo = set[str](), [kin.model.id]
        while todo:
            child = todo.pop()
            above = {e.parent for e in held if e.child == child} - found
            found |= above
            todo += above
        return sorted(found)

    def concluded(
        self,
        model: Model,
        edges: Iterable[LineageEdge],
        matches: tuple[Match, ...],
        ids: dict[str, int],
        alike: dict[tuple[int, int], bool],
        *,
        missing: bool = False,
    ) -> Looked:
        """What matches say together; `edges` are those that others than the weights assert."""
        named = list(edges)
        parents = tuple(parents_among(matches, alike))
        made = edges_with(model.id, named, matches, parents, ids)
        alarms = [
            a for a in alarms_of(made[: len(named)], matches, parents, ids) if not missing or a.code != "not_shown"
        ]
        alarms += [Alarm(code="cycle", parent=e.parent) for e in named if self._names_back(model, e)]
        return Looked(matches=matches, parents=parents, ids=ids, alike=alike, alarms=tuple(alarms))

    def _declared(self, model: Model, edges: Iterable[LineageEdge]) -> tuple[list[Kin], dict[str, int]]:
        found: dict[int, Kin] = {}
        ids: dict[str, int] = {}
        for edge in edges:
            kin = self._catalog.kin_of(edge.parent, edge.parent_revision) if edge.relation in SEEN else None
            if kin is not None and kin.model.key != model.key:
                found.setdefault(kin.model.key, kin)
                ids[edge.parent.casefold()] = kin.model.key
        return list(found.values()), ids

    def _candidates(self, model: Model, own: Fingerprint, declared: list[Kin]) -> list[Kin]:
        """Some declared parents, then in turns those that share tensors and those that look alike, other declared
        ones: so neither a crowd of names in a card nor one of models pushes out who is there."""
        sharing = self._storage.prints.sharing(own, limit=_MOST_SHARING)
        keys = candidates(own, self._catalog.holders(sharing) if sharing else [], self._catalog.alike)
        found = {kin.model.key: kin for kin in declared[:MOST_DECLARED]}
        for key in keys:
            if len(found) >= MOST_CANDIDATES:
                break
            if key != model.key and key not in found:
                found |= {kin.model.key: kin for kin in self._catalog.kin([key])}
        return [*found.values(), *declared[MOST_DECLARED:]][:MOST_CANDIDATES]

    def _match(
        self,
        model: Model,
        own: Fingerprint,
        kin: Kin,
        theirs: Fingerprint,
        *,
        declared: bool,
        said: Said | None,
        since: datetime | None,
    ) -> Match:
        likeness = compare_prints(own, theirs)
        came_later = since is not None and kin.since > since
        against = "" if declared else self._says_it_is_ours(model, kin) or later(own, theirs, came_later=came_later)
        relation = relation_of(likeness, own, theirs)
        return Match(kin=kin, likeness=likeness, declared=declared, later=against, relation=relation, said=said)

    def _says_it_is_ours(self, model: Model, kin: Kin) -> str:
        try:
            edges = self._catalog.revision(kin.model, kin.revision).edges
        except RevisionNotFound:  # its history was rewritten
            return ""
        ours = [e for e in edges if e.parent.casefold() == model.id.casefold()]
        if any(e.said is not None and e.said.word is EdgeWord.CONFIRMED for e in ours):
            return "an administrator said that it comes from this model"
        named = any(e.asserted_by != BY_WEIGHTS and e.said is None for e in ours)
        return "its card names this model as its parent" if named else ""

    def _names_back(self, model: Model, edge: LineageEdge) -> bool:
        kin = self._catalog.kin_of(edge.parent, edge.parent_revision) if edge.relation in SEEN else None
        return kin is not None and kin.model.key != model.key and bool(self._says_it_is_ours(model, kin))

    # -- what is kept ------------------------------------------------------------------------------------------------
    def weight_set(
        self,
        files: Mapping[str, Content],
        own: Fingerprint,
        looked: Looked,
        findings: Iterable[str],
        *,
        state: str,
    ) -> WeightSet:
        """The weights of a revision with what was found."""
        report = {
            "candidates": told_matches(looked.matches, looked.parents),
            "alarms": [msgspec.to_builtins(alarm) for alarm in looked.alarms],
            "findings": list(findings),
        }
        return msgspec.structs.replace(placed(files, own, state=state), report=report)

    def standing(self, model: Model, weights: WeightSet) -> list[Alarm]:
        """The alarms of a revision's weights that no administrator's word has settled."""
        said = self._catalog.said_of_parents(model, weights.digest)
        return [a for a in alarms_in(weights.report) if not (a.settles and a.key in said)]

    def told(self, alarms: Iterable[Alarm], viewer: Actor) -> list[str]:
        """Alarms as sentences for a reader."""
        wanted = list(alarms)
        names = self._catalog.told_names((a.key for a in wanted if a.key is not None), viewer)
        return list(dict.fromkeys(alarm.told(names) for alarm in wanted))


def weight_files(files: Mapping[str, File]) -> dict[str, Content]:
    """The weight files among those of a revision."""
    found = {p: f.content for p, f in files.items() if p.lower().endswith(WEIGHTS) and f.content.kind != GONE}
    return dict(list(found.items())[:_MOST_FILES])


def name_of(content: Content) -> str:
    """The name under which a file's fingerprint is kept."""
    return content.sha256 or content.git_oid


def names_of(files: Mapping[str, Content]) -> tuple[str, ...]:
    return tuple(sorted({name_of(content) for content in files.values()}))


def digest_of(files: Mapping[str, Content]) -> str:
    """Equal for equal contents of weight files, whatever their paths."""
    return hashlib.sha256("\n".join(names_of(files)).encode()).hexdigest()


def placed(files: Mapping[str, Content], own: Fingerprint | None, *, state: str) -> WeightSet:
    """The weights of files, and where they stand among others."""
    return WeightSet(
        digest=digest_of(files),
        names=names_of(files),
        signature=signature(own) if own is not None else "",
        sketch=sketch(own) if own is not None else b"",
        state=state,
    )


def _odd(path: str, fingerprint: Fingerprint) -> list[str]:
    odd = [name for name, tensor in fingerprint.tensors.items() if tensor.odd]
    if not odd:
        return []
    return [
        f"{path} holds values that are no numbers (NaN or infinite) in {len(odd)} tensors, {odd[0][:100]} among them."
    ]


def _alike(matches: Iterable[Match], prints: Mapping[int, Fingerprint | None]) -> dict[tuple[int, int], bool]:
    """Which of the related candidates are related to each other."""
    related = sorted(m.kin.model.key for m in matches if m.related)
    telling = {key: _telling(whole) for key in related if (whole := prints[key]) is not None}
    found = {}
    for at, one in enumerate(related):
        for other in related[at + 1 :]:
            first, second = telling.get(one), telling.get(other)
            if first is not None and second is not None:
                found[one, other] = compare_prints(first, second).related is Related.YES
    return found


def _telling(fingerprint: Fingerprint) -> Fingerprint:
    """It without the tensors of which no more than the name is known: an uploader may bring any number of those, and
    all pairs of candidates are compared while others wait."""
    tensors = {name: tensor for name, tensor in fingerprint.tensors.items() if tensor.sample or tensor.hash}
    return Fingerprint(tensors, fingerprint.format, fingerprint.version)


def _parents(edges: Iterable[LineageEdge]) -> set[str]:
    return {e.parent.casefold() for e in edges if e.asserted_by != BY_WEIGHTS and e.relation in SEEN}


def _carried(edges: Iterable[LineageEdge], before: Iterable[LineageEdge]) -> list[LineageEdge]:
    """Edges read anew from a card, with what the same weights said of them before."""
    known = {e.parent.casefold(): e for e in before if e.asserted_by != BY_WEIGHTS and SAID in e.evidence}
    made = []
    for edge in edges:
        old = known.get(edge.parent.casefold())
        if old is None or edge.asserted_by == BY_WEIGHTS or edge.relation not in SEEN:
            made.append(edge)
            continue
        said = f"{edge.evidence.partition(SAID)[0]}{SAID}{old.evidence.partition(SAID)[2]}"
        inferred = INFERRED in edge.evidence
        made.append(
            msgspec.structs.replace(
                edge, status=old.status, relation=old.relation if inferred else edge.relation, evidence=said
            )
        )
    return made


def _without_weights(contents: Contents) -> Contents:
    return _with(contents, [edge for edge in contents.edges if edge.asserted_by != BY_WEIGHTS])


def _with(contents: Contents, edges: Iterable[LineageEdge], findings: Iterable[str] = ()) -> Contents:
    said = tuple(dict.fromkeys([*contents.findings, *findings]))
    return msgspec.structs.replace(contents, edges=tuple(edges), findings=said)
