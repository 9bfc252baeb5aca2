"""Which tensor of one model answers to which of another: names, prefixes, layers that moved, experts of a dense MLP."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import prod
from typing import Final, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from ecotone.lineage.comparing.roles import dense_of, is_computed, layer_of
from ecotone.lineage.sources import Source
from ecotone.lineage.tensors import TensorInfo

_SKETCH: Final = 4096  # values of a tensor that stand for it when layers are matched
_TENSORS: Final = 3
_SURE: Final = 0.3
Item = TypeVar("Item")
Stack = dict[int, dict[str, str]]


class Pairing(msgspec.Struct, frozen=True):
    """Pairs of tensors, the child's name first.

    Args:
        names: the parent's name of each of the child's tensors that has one.
        only_child, only_parent: names without a partner.
        moved: layers of the child that answer to one of another number, as `stack.N`.
        repeated: layers of the parent that answer to more than one of the child.
        missing: layers of the parent that answer to none.
        added: layers of the child that answer to none.
        experts: how many of the pairs are an expert and a dense MLP.
        prefix: what the child's names have in front of the parent's (or, with a minus, the other way round).
    """

    names: dict[str, str]
    only_child: tuple[str, ...] = ()
    only_parent: tuple[str, ...] = ()
    moved: tuple[str, ...] = ()
    repeated: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    experts: int = 0
    prefix: str = ""


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items, evenly spread from first to last."""
    if not items:
        return []
    places = np.unique(np.linspace(0, len(items) - 1, min(len(items), most)).astype(int))
    return [items[int(i)] for i in places]


def pair(child: Source, parent: Source) -> Pairing:
    """The pairs of two models by name, after prefixes and moved layers are undone."""
    ours = {n: t for n, t in child.tensors.items() if not is_computed(n)}
    theirs = {n: t for n, t in parent.tensors.items() if not is_computed(n)}
    prefix = _prefix(ours, theirs)
    names = {n: partner for n in ours if (partner := _partner(n, prefix, theirs)) is not None}
    moved, repeated = _align(child, parent, ours, theirs, prefix, names)
    experts = 0
    for name in ours:
        dense = None if name in names else dense_of(name)
        partner = None if dense is None else _partner(dense, prefix, theirs)
        if partner is not None and ours[name].shape == theirs[partner].shape:
            names[name] = partner
            experts += 1
    taken = set(names.values())
    only_child = tuple(n for n in ours if n not in names)
    only_parent = tuple(n for n in theirs if n not in taken)
    return Pairing(
        names,
        only_child,
        only_parent,
        moved,
        repeated,
        _whole_layers(only_parent, taken),
        _whole_layers(only_child, set(names)),
        experts,
        prefix,
    )


def _whole_layers(alone: tuple[str, ...], paired: set[str]) -> tuple[str, ...]:
    """Layers of which no tensor has a partner, in the stacks that have some with one."""
    having = {(at[0], at[1]) for n in paired if (at := layer_of(n)) is not None}
    stacks = {stack for stack, _ in having}
    lone = {(at[0], at[1]) for n in alone if (at := layer_of(n)) is not None}
    return tuple(f"{stack}.{n}" for stack, n in sorted(lone - having) if stack in stacks)


def _partner(name: str, prefix: str, theirs: Mapping[str, TensorInfo]) -> str | None:
    if prefix.startswith("-"):
        name = prefix[1:] + name
    elif prefix and name.startswith(prefix):
        name = name.removeprefix(prefix)
    return name if name in theirs else None


def _prefix(ours: Mapping[str, TensorInfo], theirs: Mapping[str, TensorInfo]) -> str:
    """The prefix under which most names agree; empty unless it brings more than none does."""
    plain = len(ours.keys() & theirs.keys())
    counts: Counter[str] = Counter()
    for sign, longer, shorter in (("", ours, theirs), ("-", theirs, ours)):
        for name in longer:
            parts = name.split(".")
            for cut in range(1, min(len(parts), 5)):
                if ".".join(parts[cut:]) in shorter:
                    counts[sign + ".".join(parts[:cut]) + "."] += 1
    best, count = max(counts.items(), key=lambda item: item[1], default=("", 0))
    return best if count > 2 * plain else ""


def _stacks(tensors: Mapping[str, TensorInfo]) -> dict[str, Stack]:
    stacks: dict[str, Stack] = defaultdict(lambda: defaultdict(dict))
    for name in tensors:
        if (at := layer_of(name)) is not None:
            stacks[at[0]][at[1]][at[2]] = name
    return stacks


def _align(
    child: Source,
    parent: Source,
    ours: Mapping[str, TensorInfo],
    theirs: Mapping[str, TensorInfo],
    prefix: str,
    names: dict[str, str],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Corrects `names` where layers have another number in the child; the layers that moved and those that repeat."""
    moved: list[str] = []
    repeated: list[str] = []
    other = _stacks(theirs)
    for stack, layers in _stacks(ours).items():
        partner = _partner_stack(stack, prefix, other)
        if partner is None:
            continue
        answer = _answers(child, layers, parent, other[partner])
        if all(answer[n] == n or answer[n] is None for n in answer):
            continue
        used = Counter(n for n in answer.values() if n is not None)
        for number, theirs_number in answer.items():
            target = number if theirs_number is None else theirs_number
            for rest, name in layers[number].items():
                names.pop(name, None)
                if theirs_number is None and used[target]:
                    continue
                if (found := other[partner].get(target, {}).get(rest)) is not None:
                    names[name] = found
            if theirs_number is not None and theirs_number != number:
                moved.append(f"{stack}.{number}")
        repeated += [f"{partner}.{n}" for n, count in sorted(used.items()) if count > 1]
    return tuple(moved), tuple(repeated)


def _partner_stack(stack: str, prefix: str, other: Mapping[str, Stack]) -> str | None:
    name = prefix[1:] + stack if prefix.startswith("-") else stack.removeprefix(prefix)
    return name if name in other else None


def _answers(child: Source, ours: Stack, parent: Source, theirs: Stack) -> dict[int, int | None]:
    """Which layer of the parent each of the child's is nearest to; None where it is near to none."""
    ends = _matched_ends(child, ours, parent, theirs)
    if not ends:
        return dict.fromkeys(ours)
    here, there = sorted(ours), sorted(theirs)
    likeness = np.mean([_sketches(child, ours, here, e) @ _sketches(parent, theirs, there, e).T for e in ends], axis=0)
    answer: dict[int, int | None] = {}
    for row, number in enumerate(here):
        best = int(np.argmax(likeness[row]))
        same = likeness[row][there.index(number)] if number in theirs else -1.0
        near = likeness[row][best] >= _SURE and likeness[row][best] > same + 0.2
        answer[number] = there[best] if near else (number if same >= _SURE else None)
    return answer


def _matched_ends(child: Source, ours: Stack, parent: Source, theirs: Stack) -> list[str]:
    """The largest matrices that every layer on both sides has, in one shape."""
    common = set.intersection(*(set(layer) for layer in (*ours.values(), *theirs.values())))
    found = []
    for rest in common:
        shapes = {child.tensors[layer[rest]].shape for layer in ours.values()}
        shapes |= {parent.tensors[layer[rest]].shape for layer in theirs.values()}
        shape = next(iter(shapes))
        if len(shapes) == 1 and len(shape) >= 2 and prod(shape) >= 256:
            found.append((-prod(shape), rest))
    return [rest for _, rest in sorted(found)[:_TENSORS]]


def _sketches(source: Source, stack: Stack, numbers: list[int], rest: str) -> npt.NDArray[np.float64]:
    return np.stack([_sketch(source, stack[n][rest]) for n in numbers])


def _sketch(source: Source, name: str) -> npt.NDArray[np.float64]:
    """The first values of a tensor, centred and of length one; zeros when they are all the same."""
    shape = source.tensors[name].shape
    width = prod(shape[1:])
    rows = min(shape[0], max(1, _SKETCH // width))
    values = source.rows(name, 0, rows).reshape(-1)[:_SKETCH].astype(np.float64)
    values = np.where(np.abs(values) < 1e18, values, 0.0)
    values -= values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > 0 else np.zeros_like(values)
