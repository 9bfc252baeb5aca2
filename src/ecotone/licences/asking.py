"""`ask`: the decision on a graph that somebody describes as plain data, without server or catalogue.

{"nodes": [{"id": "me/x", "kind": "weights", "licence": "mit", "facts": {"model": {"modality": ["text"]}}}, ...],
 "edges": [{"child": "me/x", "parent": "base", "relation": "finetune", "status": "declared"}],
 "target": "me/x", "use": {"mode": "serve_api", "purpose": "commercial", "org.mau": 5}, "positions": {}}
"""

import datetime
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from ecotone.licences.conditions import ASSUMED
from ecotone.licences.decision import Decision, Missing
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.errors import MalformedCase
from ecotone.licences.expressions import check_expression
from ecotone.licences.family import Edge, Family, Node, Use
from ecotone.licences.identify import identify
from ecotone.licences.judge import judge
from ecotone.licences.order import SHIFT, ordered
from ecotone.licences.variables import known_variables
from ecotone.vocabulary import EdgeStatus, Mode, Purpose, Relation, Verdict

KINDS = ("weights", "adapter", "dataset", "code", "api")
MOST_NODES = 100_000
_FIELDS = frozenset({"nodes", "edges", "target", "use", "positions"})
_NODE_FIELDS = frozenset({"id", "kind", "licence", "license", "facts", "revision", "date", "visible"})
_EDGE_FIELDS = frozenset({"child", "parent", "relation", "status"})
_OF_THE_USE = frozenset({"mode", "purpose", "modified", "declared_licence", "date", "variables"})
# words of the licence relations, for who does not know what exactly was made
_RELATIONS: Mapping[str, Relation] = {
    **{str(r): r for r in Relation},
    "derive": Relation.FINETUNE,
    "link": Relation.COMPONENT_OF,
    "train_on": Relation.TRAINED_ON,
    "generate": Relation.GENERATED_BY,
    "quantized": Relation.QUANTISED,
}
_UNTOLD = ("other", "unknown", "none")
_DEEPEST = 6


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A case as it was read. `notes` are sentences on what was not understood; `purposes` more than one if untold."""

    family: Family
    use: Use
    purposes: tuple[Purpose, ...]
    positions: dict[str, str]
    notes: tuple[str, ...]


def ask(knowledge: KnowledgeBase, case: Any) -> Decision:
    """The decision for a described graph.

    A purpose that is not told is a missing variable: the answer stands only if it is the same for every purpose.

    Args:
        knowledge: the entries.
        case: what the JSON says (see above).

    Raises:
        MalformedCase: when the case cannot be read; says the field and what was expected there.
    """
    read = read_case(knowledge, case)
    decisions = [
        judge(knowledge, read.family, msgspec.structs.replace(read.use, purpose=purpose), read.positions)
        for purpose in read.purposes
    ]
    decision = min(decisions, key=lambda d: d.verdict.rank)
    if len({d.verdict for d in decisions}) > 1:
        decision = _open(decision, decisions)
    if len(read.purposes) > 1:
        decision = msgspec.structs.replace(decision, use={**decision.use, "purpose": None})
    return msgspec.structs.replace(decision, warnings=(*decision.warnings, *read.notes))


def _open(worst: Decision, decisions: Iterable[Decision]) -> Decision:
    """Unknown for want of the purpose, with what each would lead to."""
    differing = tuple(
        {"position": "purpose", "value": d.use["purpose"], "verdict": d.verdict, "chosen": None} for d in decisions
    )
    return msgspec.structs.replace(
        worst,
        verdict=Verdict.UNKNOWN,
        missing=(Missing(what="purpose", entry=worst.reasons[0].entry if worst.reasons else ""), *worst.missing),
        disputed=(*worst.disputed, *differing),
    )


def read_case(knowledge: KnowledgeBase, case: Any) -> Case:
    """The case in the engine's own words. Raises MalformedCase."""
    if not isinstance(case, Mapping):
        raise MalformedCase("the case", "is no object; expected {nodes, edges, target, use, positions}.")
    notes = [*_strange("the case", case, _FIELDS)]
    use, purposes = _use(knowledge, case.get("use"), notes)
    nodes = _nodes(knowledge, case.get("nodes"), use.date, notes)
    edges = _edges(case.get("edges"), nodes, notes)
    target = case.get("target")
    if not isinstance(target, str) or target not in nodes:
        known = ", ".join(list(nodes)[:5])
        shown = "is missing" if target is None else f"is {_shown(target)}"
        raise MalformedCase("target", f"{shown}; expected the id of one of nodes, such as {known}.")
    notes += _cycles(nodes, edges)
    return Case(
        family=Family(target, nodes, edges),
        use=use,
        purposes=purposes,
        positions=_positions(knowledge, case.get("positions")),
        notes=tuple(notes),
    )


# -- nodes and edges -------------------------------------------------------------------------------------------------
def _nodes(knowledge: KnowledgeBase, value: Any, day: Any, notes: list[str]) -> dict[str, Node]:
    items = _list("nodes", value, "objects {id, kind, licence, facts}")
    if not items:
        raise MalformedCase("nodes", "holds nothing; expected at least the target.")
    found: dict[str, Node] = {}
    for number, item in enumerate(items):
        field = f"nodes[{number}]"
        if not isinstance(item, Mapping):
            raise MalformedCase(field, f"is {_shown(item)}; expected an object {{id, kind, licence, facts}}.")
        notes += _strange(field, item, _NODE_FIELDS)
        node_id = _text(f"{field}.id", item.get("id"))
        if node_id in found:
            raise MalformedCase(f"{field}.id", f"is {node_id!r} once more; expected each node once.")
        revision, visible = item.get("revision"), item.get("visible", True)
        if not isinstance(visible, bool):
            raise MalformedCase(f"{field}.visible", f"is {_shown(visible)}; expected true or false.")
        found[node_id] = Node(
            node_id,
            revision=_text(f"{field}.revision", revision) if revision is not None else None,
            instruments=_instruments(knowledge, field, item, day, notes),
            kind=_word(f"{field}.kind", item.get("kind", "weights"), KINDS),
            visible=visible,
            facts=flattened(f"{field}.facts", item.get("facts")),
        )
    return found


def _instruments(
    knowledge: KnowledgeBase, field: str, item: Mapping[str, Any], day: Any, notes: list[str]
) -> tuple[str, ...]:
    name = "licence" if "licence" in item or "license" not in item else "license"
    declared = item.get(name)
    parts = declared if isinstance(declared, list) else [] if declared is None else [declared]
    if not all(isinstance(part, str) for part in parts):
        expected = "an id, an expression, or a list of them"
        raise MalformedCase(f"{field}.{name}", f"is {_shown(declared)}; expected {expected}.")
    found = identify(knowledge, {"license": declared}, date=_date(f"{field}.date", item.get("date")) or day)
    for part in map(str, parts):
        read = check_expression(knowledge, part)
        strange = read.unknown or ((part,) if read.error else ())
        if strange and "unknown" in found.instruments and part.strip().casefold() not in _UNTOLD:
            notes.append(
                f"{field}.{name} is {_shown(part)}: {', '.join(strange)[:100]} is no licence that the knowledge base "
                "holds; expected an id of `ecotone licence list`, a Hub id or an SPDX expression. It counts as unknown."
            )
    notes += [f"{field}.{name}: {conflict}." for conflict in found.conflicts]
    return found.instruments


def _edges(value: Any, nodes: dict[str, Node], notes: list[str]) -> tuple[Edge, ...]:
    found: dict[Edge, None] = {}
    for number, item in enumerate(_list("edges", [] if value is None else value, "objects {child, parent, relation}")):
        field = f"edges[{number}]"
        if not isinstance(item, Mapping):
            raise MalformedCase(field, f"is {_shown(item)}; expected an object {{child, parent, relation, status}}.")
        notes += _strange(field, item, _EDGE_FIELDS)
        child, parent = (_text(f"{field}.{end}", item.get(end)) for end in ("child", "parent"))
        if child not in nodes:
            raise MalformedCase(f"{field}.child", f"is {child!r}, which is no node; expected an id of nodes.")
        if parent not in nodes:
            notes.append(f"{field}.parent is {parent!r}, which is no node: its licence counts as unknown.")
        relation = _RELATIONS[_word(f"{field}.relation", item.get("relation"), tuple(_RELATIONS))]
        status = _word(f"{field}.status", item.get("status") or "declared", tuple(map(str, EdgeStatus)))
        found[Edge(child, parent, relation, EdgeStatus(status))] = None
    return tuple(found)


def _cycles(nodes: Mapping[str, Node], edges: tuple[Edge, ...]) -> list[str]:
    """A sentence for each cycle, with its members."""
    names = list(dict.fromkeys([*nodes, *(e.parent for e in edges)]))
    number = {name: i for i, name in enumerate(names)}
    parents: list[list[int]] = [[] for _ in names]
    children: list[list[int] | None] = [[] for _ in names]
    for edge in edges:
        parents[number[edge.child]].append(number[edge.parent] << SHIFT)
        below = children[number[edge.parent]]
        assert below is not None
        below.append(number[edge.child])
    told = [[names[n] for n in cycle] for cycle in ordered(parents, children)[1]]
    told += [[edge.child] for edge in edges if edge.child == edge.parent]
    return [
        f"edges make a cycle of {', '.join(map(repr, cycle[:5]))}{' and others' if len(cycle) > 5 else ''}; expected "
        "parents that are not their own descendants. Each of them is bound by what binds the others."
        for cycle in told
    ]


# -- use and positions -----------------------------------------------------------------------------------------------
def _use(knowledge: KnowledgeBase, value: Any, notes: list[str]) -> tuple[Use, tuple[Purpose, ...]]:
    if not isinstance(value, Mapping):
        shown = "is missing" if value is None else f"is {_shown(value)}"
        raise MalformedCase("use", f"{shown}; expected an object with mode, purpose and variables.")
    mode = Mode(_word("use.mode", value.get("mode"), tuple(map(str, Mode))))
    told = value.get("purpose")
    purposes = tuple(Purpose) if told is None else (Purpose(_word("use.purpose", told, tuple(map(str, Purpose)))),)
    modified = value.get("modified")
    if modified is not None and not isinstance(modified, bool):
        raise MalformedCase("use.modified", f"is {_shown(modified)}; expected true or false.")
    declared = value.get("declared_licence")
    if isinstance(declared, list) and declared and all(isinstance(part, str) for part in declared):
        declared = " AND ".join(f"({part})" if " " in part else part for part in declared)
    if declared is not None and not isinstance(declared, str):
        raise MalformedCase("use.declared_licence", f"is {_shown(declared)}; expected an id or an SPDX expression.")
    variables = flattened("use", {k: v for k, v in value.items() if k not in _OF_THE_USE})
    variables |= flattened("use.variables", value.get("variables"))
    notes += _unread(knowledge, variables)
    use = Use(
        mode=mode,
        purpose=purposes[0],
        modified=bool(modified),
        declared_licence=declared or None,
        date=_date("use.date", value.get("date")),
        variables=variables,
    )
    return use, purposes


def _unread(knowledge: KnowledgeBase, variables: Mapping[str, Any]) -> list[str]:
    """Variables that no text reads: most often a slip of the pen."""
    read = known_variables(knowledge)
    strange = [v for v in variables if v not in ASSUMED and v not in read]
    if not strange:
        return []
    dated = tuple(f"{name.rpartition('.')[0]}." for name in read if name.count(".") > 1)  # figures of a month
    return [
        f"use.{name} is read by no text of the knowledge base, so it changes nothing; is the name right?"
        for name in strange
        if not name.startswith((*dated, "policy."))
    ]


def _positions(knowledge: KnowledgeBase, value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MalformedCase("positions", f"is {_shown(value)}; expected an object of position and choice.")
    found = {}
    for name, choice in value.items():
        _word("positions", name, tuple(knowledge.positions))
        text = {True: "yes", False: "no"}[choice] if isinstance(choice, bool) else choice
        found[str(name)] = _word(f"positions.{name}", text, tuple(map(str, knowledge.positions[name]["values"])))
    return found


# -- plain values ----------------------------------------------------------------------------------------------------
def flattened(field: str, value: Any) -> dict[str, Any]:
    """Nested keys as dotted ones: {"org": {"mau": 5}} as {"org.mau": 5}. What is null is not told.

    Raises:
        MalformedCase: for what is no object, is nested too deep, or holds lists of lists or objects.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise MalformedCase(field, f"is {_shown(value)}; expected an object of names and values.")
    found: dict[str, Any] = {}
    stack: list[tuple[str, Mapping[Any, Any], int]] = [("", value, 1)]
    while stack:
        before, items, depth = stack.pop()
        for name, item in items.items():
            if isinstance(item, Mapping):
                if depth == _DEEPEST:
                    raise MalformedCase(f"{field}.{before}{name}", f"is nested deeper than {_DEEPEST} names.")
                stack.append((f"{before}{name}.", item, depth + 1))
            elif isinstance(item, list) and any(isinstance(part, (list, Mapping)) for part in item):
                raise MalformedCase(
                    f"{field}.{before}{name}", "holds lists or objects in a list; expected plain values."
                )
            elif item is not None:
                found[f"{before}{name}"] = item
    return found


def _list(field: str, value: Any, expected: str) -> list[Any]:
    if not isinstance(value, list):
        raise MalformedCase(
            field, f"{'is missing' if value is None else 'is ' + _shown(value)}; expected a list of {expected}."
        )
    if len(value) > MOST_NODES:
        raise MalformedCase(field, f"holds {len(value)} things; expected at most {MOST_NODES}.")
    return value


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise MalformedCase(field, f"{'is missing' if value is None else 'is ' + _shown(value)}; expected a text.")
    return value


def _word(field: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        shown = "is missing" if value is None else f"is {_shown(value)}"
        raise MalformedCase(field, f"{shown}; expected one of {', '.join(known)}.")
    return value


def _date(field: str, value: Any) -> datetime.date | None:
    if value is None:
        return None
    try:
        return datetime.date.fromisoformat(value)
    except (TypeError, ValueError):
        raise MalformedCase(field, f"is {_shown(value)}; expected a day such as 2026-11-23.") from None


def _strange(field: str, item: Mapping[str, Any], known: frozenset[str]) -> list[str]:
    found = [str(name)[:60] for name in item if name not in known]
    return [f"{field}.{name} is not read; expected {', '.join(sorted(known))}." for name in found[:5]]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
