"""A family tree as SVG: ancestors above, descendants below, edges by status. Drawn from the tree; decides nothing.

A level of many descendants is drawn as one box for each relation, which leads to the list of its members. Verdicts have
marks and words beside their colours, and each status its own line.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from markupsafe import Markup, escape

from ecotone.policy.trees import Tree, TreeEdge, TreeMember
from ecotone.web.licensing import VERDICT_MARKS, VERDICT_WORDS

BOX, TALL, GAP, STEP = 206, 62, 22, 64
_ROW = 4
_ASIDE = 110
_MOST_ON_LEVEL = 12
_MOST_LEVELS = 12
_MOST_LETTERS = 25
_SIGNS = {"declared": "", "verified": " ✓", "suspected": " ?", "refuted": " ✕"}


@dataclass(slots=True)
class Box:
    """A member, or many of one relation (`count`). `links` are numbers of the edges to its parents."""

    id: str
    lines: tuple[str, str, str]
    told: str
    path: str | None
    verdict: str
    depth: int
    count: int = 0
    x: float = 0.0
    y: float = 0.0


@dataclass(slots=True)
class Line:
    """An edge between two boxes; `number` is its place in the list below the picture, 0 for a bundle."""

    parent: str
    child: str
    relation: str
    status: str
    number: int


@dataclass(slots=True)
class Graph:
    boxes: dict[str, Box] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    left_out: int = 0


def graph_of(tree: Tree, shown: Iterable[TreeMember], numbers: dict[int, int], query: str, root: str) -> Graph:
    """What is drawn.

    Args:
        shown: the descendants that were chosen.
        numbers: the number of each listed edge by its place among the tree's edges.
        query: `&mode=...` that links keep.
    """
    graph = Graph()
    levels: dict[int, list[TreeMember]] = {}
    drawn = (*(m for m in tree.members if m.depth <= 0), *shown)
    level = _levels(drawn, tree.edges)
    for member in drawn:
        levels.setdefault(level[member.id], []).append(member)
    stands: dict[str, str] = {}
    relations = {e.child: e.relation for e in reversed(tree.edges)}
    for depth, members in sorted(levels.items()):
        if abs(depth) > _MOST_LEVELS:
            graph.left_out += len(members)
        elif depth > 0 and len(members) > _MOST_ON_LEVEL:
            _bundle(graph, depth, members, relations, stands, query)
        else:
            graph.left_out += max(0, len(members) - 2 * _MOST_ON_LEVEL)
            for member in members[: 2 * _MOST_ON_LEVEL]:
                graph.boxes[member.id] = _box(member, depth, query, root)
                stands[member.id] = member.id
    _lines(graph, tree.edges, stands, numbers)
    _place(graph)
    return graph


def _levels(members: Iterable[TreeMember], edges: Iterable[TreeEdge]) -> dict[str, int]:
    """The level of each member: the longest way to the subject, so that no edge lies within a level. Where
    there is a cycle, or are more levels than are drawn, it is the shortest for all."""
    depths = {m.id: m.depth for m in members}
    found = dict(depths)
    above = [(e.parent, e.child) for e in edges if depths.get(e.parent, 1) < 0 and depths.get(e.child, 1) <= 0]
    below = [(e.parent, e.child) for e in edges if depths.get(e.parent, -1) >= 0 and depths.get(e.child, -1) > 0]
    for _ in range(_MOST_LEVELS + 1):
        before = dict(found)
        for parent, child in above:
            found[parent] = min(found[parent], found[child] - 1)
        for parent, child in below:
            found[child] = max(found[child], found[parent] + 1)
        if found == before:
            return found
    return depths


def _box(member: TreeMember, depth: int, query: str, root: str) -> Box:
    verdict = member.verdict
    word = f"{VERDICT_MARKS[verdict]} {VERDICT_WORDS[verdict]}" if verdict is not None else ""
    if not word and member.kind == "dataset":
        word = "dataset"
    marks = [
        w for w, on in (("private", member.private), ("deleted", member.deleted), ("not here", not member.known)) if on
    ]
    licences = ", ".join(member.licences) if member.name else ""
    told = ", ".join(filter(None, (member.title, word, licences, *marks)))
    third = " · ".join([*marks, licences]) if marks else licences
    path = f"{root}/{member.name}/family?{query}" if member.name else None
    return Box(
        member.id,
        (_cut(member.title), word, _cut(third)),
        told,
        path,
        verdict.value if verdict else "none",
        depth,
    )


def _bundle(
    graph: Graph, depth: int, members: list[TreeMember], relations: dict[str, str], stands: dict[str, str], query: str
) -> None:
    groups: dict[str, list[TreeMember]] = {}
    for member in members:
        groups.setdefault(relations.get(member.id, ""), []).append(member)
    for relation, some in sorted(groups.items(), key=lambda g: -len(g[1])):
        verdicts = [m.verdict for m in some if m.verdict is not None]
        worst = min(verdicts, key=lambda v: v.rank, default=None)
        same = len(set(verdicts)) == 1
        word = f"{VERDICT_MARKS[worst]} {'all: ' if same else 'worst: '}{VERDICT_WORDS[worst].lower()}" if worst else ""
        box_id = f"bundle-{depth}-{relation}"
        title = f"{len(some):,} by {relation.replace('_', ' ')}"
        graph.boxes[box_id] = Box(
            box_id,
            (_cut(title), _cut(word, 29), "show them in the list"),
            f"{title}, {word}: show them in the list",
            f"?{query}&relation={relation}#members",
            worst.value if worst else "none",
            depth,
            count=len(some),
        )
        stands |= {m.id: box_id for m in some}


def _lines(graph: Graph, edges: Iterable[TreeEdge], stands: dict[str, str], numbers: dict[int, int]) -> None:
    drawn: set[tuple[str, str, str, str]] = set()
    for place, edge in enumerate(edges):
        parent, child = stands.get(edge.parent), stands.get(edge.child)
        if parent is None or child is None or parent == child:
            continue
        bundled = graph.boxes[parent].count or graph.boxes[child].count
        mark = (parent, child, edge.relation, edge.status.value)
        if mark in drawn:
            continue
        drawn.add(mark)
        number = 0 if bundled else numbers.get(place, 0)
        graph.lines.append(Line(parent, child, edge.relation, edge.status.value, number))


def _place(graph: Graph) -> None:
    """Levels from top to bottom, each in rows of a few boxes around the middle."""
    levels: dict[int, list[Box]] = {}
    for box in graph.boxes.values():
        levels.setdefault(box.depth, []).append(box)
    widest = max((min(len(boxes), _ROW) for boxes in levels.values()), default=1)
    width = widest * (BOX + GAP) - GAP
    y = float(GAP)
    for _, boxes in sorted(levels.items()):
        for start in range(0, len(boxes), _ROW):
            row = boxes[start : start + _ROW]
            left = (width - (len(row) * (BOX + GAP) - GAP)) / 2
            for place, box in enumerate(row):
                box.x, box.y = GAP + left + place * (BOX + GAP), y
            y += TALL + (GAP if start + _ROW < len(boxes) else 0)
        y += STEP


def svg(graph: Graph, name: str) -> Markup:
    """The drawing. Links work without script; a script finds what it needs in `data-` attributes."""
    right = max((b.x for b in graph.boxes.values()), default=0) + BOX + GAP
    right += _ASIDE if any(_is_behind(graph.boxes[e.parent], graph.boxes[e.child]) for e in graph.lines) else 0
    low = max((b.y for b in graph.boxes.values()), default=0) + TALL + GAP
    parts = [
        f'<svg class="family-graph" role="group" aria-label="{escape(f"Family tree of {name}")}" '
        f'viewBox="0 0 {right:.0f} {low:.0f}" width="{right:.0f}" height="{low:.0f}">'
    ]
    parts += [_line(line, graph.boxes) for line in graph.lines]
    parts += [_drawn(box) for box in graph.boxes.values()]
    return Markup("".join(parts) + "</svg>")  # noqa: S704  every word in it was escaped


def _is_behind(parent: Box, child: Box) -> bool:
    """Whether a straight line would run behind a box between the two; it goes around it."""
    return child.y - parent.y > TALL + STEP + 1 and abs(child.x - parent.x) < BOX / 2


def _line(line: Line, boxes: dict[str, Box]) -> str:
    parent, child = boxes[line.parent], boxes[line.child]
    x1, y1, x2, y2 = parent.x + BOX / 2, parent.y + TALL, child.x + BOX / 2, child.y
    if y2 < y1:  # within a level, or upwards in a cycle
        y1, y2 = parent.y + TALL / 2, child.y + TALL / 2
    bend = max(18.0, (y2 - y1) / 2)
    words = line.relation.replace("_", " ")
    told = escape(f"{words} of {parent.lines[0]}, {line.status}")
    near = 0.62 if y2 - y1 <= STEP + 1 else 1.0  # the words of a long line stand where it arrives
    x = (1 - near) * x1 + near * x2
    y = (1 - near) * y1 + near * y2 if near < 1 else y2 - 12
    wide = 6.4 * (len(words) + len(_SIGNS[line.status])) + 12
    aside = 0.0
    if _is_behind(parent, child):
        aside, x, y = BOX * 0.95, max(x1, x2) + (BOX + wide) / 2 + 4, (y1 + y2) / 2
    curve = f"C{x1 + aside:.1f} {y1 + bend:.1f} {x2 + aside:.1f} {y2 - bend:.1f} {x2:.1f} {y2:.1f}"
    path = f'<title>{told}</title><path class="line" d="M{x1:.1f} {y1:.1f}{curve}"/>'
    body = path + (
        f'<rect x="{x - wide / 2:.1f}" y="{y - 10:.1f}" width="{wide:.1f}" height="19" rx="4"/>'
        f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle">{escape(words + _SIGNS[line.status])}</text>'
    )
    data = f'class="edge status-{line.status}" data-parent="{escape(line.parent)}" data-child="{escape(line.child)}"'
    if boxes[line.child].count:  # its relation is in its name
        return f"<g {data}>{path}</g>"
    if not line.number:
        return f"<g {data}>{body}</g>"
    return f'<a {data} href="#edge-{line.number}" aria-label="{told}: evidence">{body}</a>'


def _drawn(box: Box) -> str:
    shape = "box" + (" many" if box.count else "") + (" self" if box.depth == 0 else "")
    texts = "".join(
        f'<text class="{kind}" x="{box.x + 12:.1f}" y="{box.y + dy:.1f}">{escape(text)}</text>'
        for kind, dy, text in (("name", 20, box.lines[0]), ("word", 37, box.lines[1]), ("licence", 53, box.lines[2]))
        if text
    )
    stack = f'<rect class="under" x="{box.x + 5:.1f}" y="{box.y + 5:.1f}" width="{BOX}" height="{TALL}" rx="9"/>'
    body = (
        f"<title>{escape(box.told)}</title>{stack if box.count else ''}"
        f'<rect class="body" x="{box.x:.1f}" y="{box.y:.1f}" width="{BOX}" height="{TALL}" rx="9"/>{texts}'
    )
    data = f'class="{shape} verdict-{box.verdict}" data-id="{escape(box.id)}" data-depth="{box.depth}"'
    data += f' data-x="{box.x:.0f}" data-y="{box.y:.0f}"'
    if box.path is None:
        return f"<g {data}>{body}</g>"
    return f'<a {data} href="{escape(box.path)}" aria-label="{escape(box.told)}">{body}</a>'


def _cut(text: str, most: int = _MOST_LETTERS) -> str:
    """The beginning and the end of what is too long for its box."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[: most - half - 1]}…{text[-half:]}"
