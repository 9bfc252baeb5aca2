"""The class of a model in the Model Openness Framework (arXiv 2403.13784), and what the next class lacks. Pure.

Components, classes and the licences that count as open are data (`openness.yaml`, with sources). Computed as the Model
Openness Tool does: a component counts when an open licence covers it, its own before that of its kind before that of
the distribution; a class is met when all required components of it and of the classes below count; its progress is 0
while the class below is not met; a research paper stands for a technical report.
"""

import functools
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

import msgspec
import yaml

from ecotone.licences.errors import UnreadableRelease

LARGEST_RELEASE = 1024 * 1024
_MOST_NODES = 20_000
_DEEPEST = 16
_LONGEST = 200
REPORT = "Technical report"
PAPER = "Research paper"
CLASSES = (3, 2, 1)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Component(msgspec.Struct, frozen=True):
    """A component of the framework: `level` is the class (3, 2, 1) from which on it belongs to a release."""

    name: str
    kind: str
    level: int = msgspec.field(name="class")
    required: bool
    files: tuple[str, ...] = ()


class Framework(msgspec.Struct, frozen=True):
    sources: dict[str, str]
    labels: dict[int, str]
    components: tuple[Component, ...]
    open: dict[str, tuple[str, ...]]
    libraries: dict[str, str] = {}

    def is_open(self, licence: str) -> bool:
        return any(licence in ids for ids in self.open.values())


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A component that a release has: its own licence, where it tells one, and where each of the two was seen."""

    name: str
    licence: str | None = None
    evidence: tuple[str, ...] = ()
    outside: bool = False


class State(msgspec.Struct, frozen=True, kw_only=True):
    """How a component stands: open, not_open (another licence), unlicensed (no licence known) or missing."""

    name: str
    level: int = msgspec.field(name="class")
    required: bool
    status: str
    licence: str | None = None
    evidence: tuple[str, ...] = ()


class Openness(msgspec.Struct, frozen=True, kw_only=True):
    """The class (1 is the most open, 0 is none), progress of each class in percent, and what the next class lacks."""

    model: str
    level: int = msgspec.field(name="class")
    label: str
    progress: dict[int, float]
    components: tuple[State, ...]
    next_class: int | None = None
    missing: tuple[str, ...] = ()
    source: str = ""
    notice: str = "not legal advice"

    def to_json(self) -> dict[str, Any]:
        told: dict[str, Any] = msgspec.to_builtins(self)
        return {**told, "progress": {str(k): v for k, v in sorted(self.progress.items())}}


@functools.cache
def framework() -> Framework:
    """The framework's data file."""
    raw = (files(__package__) / "openness.yaml").read_text(encoding="utf-8")
    return msgspec.convert(yaml.safe_load(raw), Framework)


def rate(model: str, found: Iterable[Found], covering: Mapping[str, str] | None = None) -> Openness:
    """The class of a model whose components are known.

    Args:
        model: its name.
        found: components that the release has; names that the framework does not know are passed over.
        covering: licences of the whole, by kind (`code`, `data`, `document`) or `distribution`.
    """
    told = framework()
    present = {one.name: one for one in found}
    states = tuple(_state(component, present, covering or {}) for component in told.components)
    counted = {s.name for s in states if s.status == "open"}
    progress: dict[int, float] = {}
    level, met = 0, True
    for number in CLASSES:
        progress[number] = _progress(number, counted) if met else 0.0
        met = met and progress[number] == 100
        level = number if met else level
    following = {0: 3, 3: 2, 2: 1}.get(level)
    return Openness(
        model=model,
        level=level,
        label=told.labels[level],
        progress=progress,
        components=states,
        next_class=following,
        missing=_lacking(following, states, counted) if following else (),
        source=told.sources["framework"],
    )


def _state(component: Component, present: Mapping[str, Found], covering: Mapping[str, str]) -> State:
    one = present.get(component.name)
    licence, status = None, "missing"
    if one is not None:
        whole = None if one.outside else covering.get(component.kind) or covering.get("distribution")
        licence = one.licence or whole
        status = "unlicensed" if licence is None else "open" if framework().is_open(licence) else "not_open"
    return State(
        name=component.name,
        level=component.level,
        required=component.required,
        status=status,
        licence=licence,
        evidence=one.evidence if one else (),
    )


def _wanted(number: int, counted: set[str]) -> list[str]:
    """Names of what a class requires; below class I a paper that counts stands for the report."""
    names = [c.name for c in framework().components if c.required and c.level >= number]
    if REPORT not in counted and PAPER in counted:
        names = [n for n in names if n != REPORT]
        if PAPER not in names:
            names.append(PAPER)
    return names


def _progress(number: int, counted: set[str]) -> float:
    wanted = _wanted(number, counted)
    return sum(name in counted for name in wanted) / len(wanted) * 100


def _lacking(number: int, states: Iterable[State], counted: set[str]) -> tuple[str, ...]:
    """What stands between a model and a class, each as a sentence."""
    known = {s.name: s for s in states}
    words = {
        "missing": "is not there",
        "unlicensed": "is there, but no licence of it is known",
    }
    found = []
    for name in _wanted(number, counted):
        state = known[name]
        if name not in counted:
            why = words.get(state.status) or f"is under {state.licence}, which does not count as open"
            other = f" (a {PAPER.lower()} would do as well)" if name == REPORT and number > 1 else ""
            found.append(f"{name} {why}{other}")
    return tuple(found)


def read_release(raw: bytes) -> tuple[str, list[Found], dict[str, str]]:
    """Name, components and covering licences of a model file of the Model Openness Tool (YAML).

    Raises:
        UnreadableRelease: it is too large, no YAML, or no such file.
    """
    release = _loaded(raw).get("release")
    if not isinstance(release, dict):
        raise UnreadableRelease("has no mapping `release`")
    listed = release.get("components")
    if not isinstance(listed, list):
        raise UnreadableRelease("has no list `release.components`")
    known = {c.name.casefold(): c.name for c in framework().components}
    found = []
    for number, one in enumerate(listed):
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise UnreadableRelease(f"has a component without a name (number {number + 1})")
        name = known.get(one["name"].strip().casefold())
        if name is not None:
            place = _text(one.get("component_path"))
            evidence = (f"release.components[{number}]", *([place] if place else []))
            found.append(Found(name=name, licence=_text(one.get("license")), evidence=evidence))
    return _text(release.get("name")) or "unnamed", found, _covering(release.get("license"))


def _covering(told: Any) -> dict[str, str]:
    if not isinstance(told, dict):
        return {}
    names = {str(k): _text(v.get("name") if isinstance(v, dict) else v) for k, v in told.items()}
    return {kind: name for kind, name in names.items() if name}


def _text(value: Any) -> str | None:
    return value.strip()[:_LONGEST] or None if isinstance(value, str) else None


def _loaded(raw: bytes) -> dict[str, Any]:
    if len(raw) > LARGEST_RELEASE:
        raise UnreadableRelease(f"is larger than {LARGEST_RELEASE >> 20} MiB")
    try:
        text = raw.decode("utf-8-sig")
        _check_shape(text)
        told = yaml.load(text, Loader=_Loader)  # noqa: S506  a safe loader
    except UnicodeDecodeError:
        raise UnreadableRelease("is not UTF-8 text") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError, RecursionError, AttributeError) as error:
        raise UnreadableRelease(f"is no YAML: {' '.join(str(error).split())[:_LONGEST]}") from None
    if not isinstance(told, dict):
        raise UnreadableRelease("is no mapping with `framework` and `release`")
    return told


def _check_shape(text: str) -> None:
    depth = 0
    for nodes, event in enumerate(yaml.parse(text, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent):
            raise UnreadableRelease("uses YAML aliases, which are not read here; write values out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if nodes > _MOST_NODES or depth > _DEEPEST:
            raise UnreadableRelease(f"is too deep or too long (at most {_MOST_NODES} values, {_DEEPEST} deep)")
