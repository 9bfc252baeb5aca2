"""The family of a model that lies in a folder: its card, its licence files, the parents it names. Without a server.

A parent is one of the folders or licences that were given, or an entry of the starter catalogue; of any other the
licence is unknown.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ecotone.vocabulary import Invalid, Relation

if TYPE_CHECKING:
    from ecotone.licences import Edge, Family, KnowledgeBase
    from ecotone.licences.detection import Conclusion
    from ecotone.licences.duties import Folder
    from ecotone.lineage.declared import DeclaredEdge

CARD, ADAPTER = "README.md", "adapter_config.json"
_MOST_NODES = 200
_UNKNOWN = ("unknown",)
_WHOLE = 64 * 1024 * 1024


class ModelFolder(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder says of the model in it. `instruments` are concluded from card and licence files.

    `named` is False where nobody told the model's name and `id` is the folder's.
    """

    id: str
    named: bool
    files: Any
    card: dict[str, Any]
    edges: tuple[Any, ...]
    instruments: tuple[str, ...]
    declared: str | None
    conflicts: tuple[str, ...]


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """A parent that was given beside the folder: its files, or only its licence."""

    id: str | None
    folder: ModelFolder | None = None
    instruments: tuple[str, ...] = _UNKNOWN


class Composed(msgspec.Struct, frozen=True, kw_only=True):
    """The family of a folder. `files` are those at hand, by id."""

    family: Any
    files: dict[str, Any]
    notes: tuple[str, ...]


def read_folder(folder: Path, knowledge: "KnowledgeBase", name: str | None = None) -> ModelFolder:
    """A model's folder. Raises Invalid when it, or its card, cannot be read."""
    from ecotone.catalog.cards import parse
    from ecotone.licences.detection.reading import Unreadable
    from ecotone.licences.duties import Folder
    from ecotone.lineage import declared_edges

    try:
        files = Folder(folder)
        paths = files.paths()
        card, _ = parse(files.text(CARD)) if CARD in paths else ({}, "")
        adapter = _adapter(files)
    except Unreadable as reason:
        raise Invalid(f"{folder} cannot be read: {reason}; a folder with a model's card is expected.") from None
    conclusion = concluded(files, card, knowledge)
    told = name or _name(card)
    return ModelFolder(
        id=told or files.root.name or "model",
        named=told is not None,
        files=files,
        card=card,
        edges=tuple(declared_edges(card, adapter_config=adapter)),
        instruments=_choice(knowledge, conclusion.concluded),
        declared=conclusion.declared,
        conflicts=conflicts_of(conclusion),
    )


def concluded(files: "Folder", card: Mapping[str, Any], knowledge: "KnowledgeBase") -> "Conclusion":
    """What a folder's card and licence files say together."""
    from ecotone.licences import identify
    from ecotone.licences.detection import conclude, of_the_work

    detected = of_the_work(files.paths(), lambda path, most: _head(files, path, most), knowledge)
    return conclude(knowledge, identify(knowledge, card), detected)


def conflicts_of(conclusion: "Conclusion") -> tuple[str, ...]:
    """Where card and licence files contradict each other, as sentences."""
    return tuple(
        f"card {c['declared'] or 'nothing'}, licence file {c['detected']}: {c['reason']}" for c in conclusion.conflicts
    )


def _head(files: "Folder", path: str, most: int) -> bytes:
    try:
        with files.file(path).open("rb") as file:
            return file.read(most)
    except OSError:
        return b""


def _choice(knowledge: "KnowledgeBase", concluded: Iterable[str]) -> tuple[str, ...]:
    return tuple(i if i in knowledge.entries else "unknown" for i in dict.fromkeys(concluded)) or ("none",)


def _name(card: Mapping[str, Any]) -> str | None:
    """The name that the card itself gives the model: `model_name`, or that of its one entry in `model-index`."""
    index = card.get("model-index")
    entries = [e for e in index if isinstance(e, dict)] if isinstance(index, list) else []
    for told in (card.get("model_name"), entries[0].get("name") if len(entries) == 1 else None):
        if isinstance(told, str) and told.strip() and len(told) <= 200:
            return told.strip()
    return None


def _adapter(files: "Folder") -> dict[str, Any] | None:
    if ADAPTER not in files.paths():
        return None
    try:
        found = msgspec.json.decode(files.text(ADAPTER))
    except (msgspec.DecodeError, RecursionError):
        raise Invalid(f"{ADAPTER} of {files.root} is no JSON; PEFT's configuration is expected.") from None
    return found if isinstance(found, dict) else {}


def read_parents(given: Iterable[str], knowledge: "KnowledgeBase") -> list[Given]:
    """Parents as the command line tells them: DIR, ID=DIR or ID=LICENCE. Raises Invalid."""
    from ecotone.licences import identify

    found = []
    for text in given:
        name, equals, value = text.rpartition("=")
        if Path(text).is_dir():
            found.append(Given(id=None, folder=read_folder(Path(text), knowledge)))
        elif equals and name.strip() and Path(value).is_dir():
            found.append(Given(id=name.strip(), folder=read_folder(Path(value), knowledge, name.strip())))
        elif equals and name.strip() and value.strip():
            instruments = identify(knowledge, {"license": value.strip()}).instruments
            if value.strip().lower() not in _UNKNOWN and instruments == _UNKNOWN:
                raise Invalid(f"--parent {text}: {value!r} is neither a folder here nor a licence that is known.")
            found.append(Given(id=name.strip(), instruments=instruments))
        else:
            raise Invalid(f"--parent takes DIR, ID=DIR or ID=LICENCE; {text!r} is no folder here.")
    return found


def compose(model: ModelFolder, parents: Iterable[Given], knowledge: "KnowledgeBase") -> Composed:
    """The family of a folder, its parents from what was given and from the starter catalogue."""
    return _Composing(model, list(parents), knowledge).composed()


class _Composing:
    def __init__(self, model: ModelFolder, parents: list[Given], knowledge: "KnowledgeBase") -> None:
        self._model, self._parents, self._knowledge = model, parents, knowledge
        self._nodes: dict[str, Any] = {}
        self._edges: list[Edge] = []
        self._files: dict[str, Any] = {model.id: model.files}
        self._notes = list(model.conflicts)
        self._named: dict[str, str] = {}

    def composed(self) -> Composed:
        from ecotone.licences import Family, Node

        model = self._model
        self._nodes[model.id] = Node(model.id, instruments=model.instruments, facts=_facts(model))
        self._named[model.id.casefold()] = model.id
        unused = dict(enumerate(self._parents))
        self._walk(model.id, model.edges, unused)
        for given in unused.values():
            name = given.id or (given.folder.id if given.folder else "")
            relation = Relation.ADAPTER if ADAPTER in model.files.paths() else Relation.FINETUNE
            self._notes.append(f"{name} was given as a parent, which the card does not name; taken as {relation}")
            self._join(model.id, name, relation, given)
        return Composed(
            family=Family(model.id, self._nodes, tuple(dict.fromkeys(self._edges))),
            files=self._files,
            notes=tuple(self._notes),
        )

    def _walk(self, child: str, edges: Iterable["DeclaredEdge"], unused: dict[int, Given]) -> None:
        edges = list(edges)
        models = [e for e in edges if e.relation is not Relation.TRAINED_ON]
        for edge in edges:
            dataset = edge.relation is Relation.TRAINED_ON
            number = None if dataset else self._match(edge.parent, unused, alone=len(models) == 1)
            given = unused.pop(number) if number is not None else None
            self._join(child, f"datasets/{edge.parent}" if dataset else edge.parent, edge.relation, given, unused)

    def _match(self, parent: str, unused: dict[int, Given], *, alone: bool) -> int | None:
        """Which of the given parents an edge names: by id, by the last part of it, or as the only one there is."""
        wanted, last = parent.casefold(), parent.rpartition("/")[2].casefold()
        for exact in (True, False):
            for number, given in unused.items():
                names = (
                    [given.id] if given.id else [given.folder.id, given.folder.files.root.name] if given.folder else []
                )
                if any((n or "").casefold() == (wanted if exact else last) for n in names):
                    return number
        free = [n for n, g in unused.items() if g.id is None]
        return free[0] if alone and len(free) == 1 and len(unused) == 1 else None

    def _join(
        self, child: str, parent: str, relation: Relation, given: Given | None, unused: dict[int, Given] | None = None
    ) -> None:
        from ecotone.catalog.starter import starter_model
        from ecotone.licences import Edge, Node

        known = self._named.get(parent.casefold())
        if known is None and len(self._nodes) < _MOST_NODES:
            starter = starter_model(parent)
            known = self._named[parent.casefold()] = starter.id if starter is not None else parent
            if given is not None and given.folder is not None:
                self._files[known] = given.folder.files
                self._nodes[known] = Node(
                    known, instruments=self._of_folder(given.folder, starter), facts=_facts(given.folder)
                )
                self._walk(known, given.folder.edges, unused or {})
            elif given is not None:
                self._nodes[known] = Node(known, instruments=given.instruments)
            elif starter is not None:
                self._nodes[known] = Node(known, instruments=starter.instruments, kind=str(starter.kind))
                for edge in starter.parents:
                    self._join(known, edge.parent, edge.relation, None)
            else:
                kind = "dataset" if relation is Relation.TRAINED_ON else "weights"
                self._nodes[known] = Node(known, instruments=_UNKNOWN, kind=kind)
        if known != child:
            self._edges.append(Edge(child, known or parent, relation))

    def _of_folder(self, folder: ModelFolder, starter: Any) -> tuple[str, ...]:
        """What a parent's folder says, and what the starter catalogue knows when the folder says nothing."""
        silent = set(folder.instruments) <= {"none", "unknown"}
        return starter.instruments if silent and starter is not None else folder.instruments


def _facts(model: ModelFolder) -> dict[str, Any]:
    from ecotone.licences.duties.texts import notice_texts

    return {"parent_has_notice_file": bool(notice_texts(model.files))}


def changed_files(family: "Family", files: Mapping[str, Any]) -> dict[str, str]:
    """What the subject's files are against those of each direct parent whose folder is at hand, as sentences."""
    found = {}
    own = files[family.subject]
    for parent in dict.fromkeys(e.parent for e in family.edges if e.child == family.subject):
        theirs = files.get(parent)
        if theirs is not None:
            found[parent] = _against(own, theirs)
    return found


_OF_THE_DUTIES = ("README.md", "CHANGES.md", "NOTICE", "USE_RESTRICTIONS.md", "UI_STRINGS.md", "duties.json")


def _against(own: "Folder", theirs: "Folder") -> str:
    groups: dict[str, list[str]] = {"changed": [], "added": [], "the same": [], "not compared": []}
    for path in own.paths():
        if path in _OF_THE_DUTIES or path.startswith("LICENSES/"):
            continue
        same = _equal(own.file(path), theirs.file(path)) if path in theirs.paths() else None
        word = (
            "added" if path not in theirs.paths() else {True: "the same", False: "changed", None: "not compared"}[same]
        )
        groups[word].append(path)
    parts = [f"{word} {', '.join(paths)}" for word, paths in groups.items() if paths]
    return "; ".join(parts) + "." if parts else "no files."


def _equal(one: Path, other: Path) -> bool | None:
    """Whether two files are equal; None for large ones of one size, which are not read."""
    try:
        size = one.stat().st_size
        if size != other.stat().st_size:
            return False
        return one.read_bytes() == other.read_bytes() if size <= _WHOLE else None
    except OSError:
        return None
