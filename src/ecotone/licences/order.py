"""Parents before children, with the members of a cycle together. Knows numbers only."""

from collections.abc import Iterable

SHIFT = 6  # an edge is one number: the parent, and below it six bits of the graph's own


def ordered(parents: list[list[int]], children: list[list[int] | None]) -> tuple[list[int], list[tuple[int, ...]]]:
    """Nodes with parents before children, and the members of each cycle, which stand together in the order."""
    waiting = [len(found) for found in parents]
    order = [number for number, count in enumerate(waiting) if not count]
    for number in order:  # grows while it is walked
        for child in children[number] or ():
            waiting[child] -= 1
            if not waiting[child]:
                order.append(child)
    if len(order) == len(parents):
        return order, []
    cycles: list[tuple[int, ...]] = []
    for component in _components([n for n, count in enumerate(waiting) if count], waiting, parents):
        order += component
        if len(component) > 1:
            cycles.append(tuple(component))
    return order, cycles


def _components(left: list[int], waiting: list[int], parents: list[list[int]]) -> Iterable[list[int]]:
    """Tarjan's strongly connected components of the nodes left, each after those of its parents."""
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    held: dict[int, None] = {}
    for root in left:
        if root in index:
            continue
        work = [(root, iter(parents[root]))]
        index[root] = low[root] = len(index)
        held[root] = None
        while work:
            number, rest = work[-1]
            for code in rest:
                parent = code >> SHIFT
                if not waiting[parent]:
                    continue
                if parent not in index:
                    index[parent] = low[parent] = len(index)
                    held[parent] = None
                    work.append((parent, iter(parents[parent])))
                    break
                if parent in held:
                    low[number] = min(low[number], index[parent])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[number])
                if low[number] == index[number]:
                    component: list[int] = []
                    while not component or component[-1] != number:
                        component.append(held.popitem()[0])
                    yield component
