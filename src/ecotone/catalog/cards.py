"""Model cards: the front matter of README.md as JSON values. Bounded; a hostile card costs no more than a long one.

YAML is read as version 1.2's core schema reads it (`language: no` is Norwegian, dates stay text), without anchors.
Which licence a card means is for `licences`, which lineage it declares for `lineage`.
"""

import math
import re
from collections.abc import Hashable
from typing import Any

import yaml

from ecotone.catalog.errors import BadCard

MAX_FRONT_MATTER = 1024 * 1024
MAX_NODES = 50_000
MAX_DEPTH = 24
MAX_CARD_TEXT = 2 * 1024 * 1024

_FRONT = re.compile(r"\A\s*---[ \t]*(?:\r\n|\r|\n)(.*?)(?:(?<=\n)|(?<=\r))---[ \t]*(?:\r\n|\r|\n|\Z)", re.DOTALL)
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _CardLoader(_Loader):  # type: ignore[misc]
    """Safe YAML with the scalars of version 1.2."""


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    rules = [
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", "~nN"),
        ("int", r"[-+]?[0-9]+", "-+0123456789"),
        ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
        ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ]
    for kind, pattern, starts in rules:
        for start in [*starts, *([""] if kind == "null" else [])]:
            table.setdefault(start, []).append((f"tag:yaml.org,2002:{kind}", re.compile(rf"(?:{pattern})\Z")))
    return table


_CardLoader.yaml_implicit_resolvers = _resolvers()


def _integer(loader: Any, node: yaml.ScalarNode) -> int | str:
    return int(node.value) if len(node.value) <= 300 else str(node.value)


_CardLoader.add_constructor("tag:yaml.org,2002:int", _integer)


def split(content: str) -> tuple[str | None, str]:
    """Front matter (None when there is none) and the text below it."""
    found = _FRONT.match(content[: MAX_FRONT_MATTER + 4096].lstrip("\ufeff"))
    if found is None:
        return None, content
    return found.group(1), content.lstrip("\ufeff")[found.end() :]


def parse(content: str) -> tuple[dict[str, Any], str]:
    """Metadata (JSON values) and text of a card.

    Raises:
        BadCard: saying where the front matter breaks, or which bound it passes.
    """
    front, text = split(content)
    if front is None:
        if content.lstrip("\ufeff").startswith("---\n") and len(content) > MAX_FRONT_MATTER:
            raise BadCard(f"The front matter of README.md has no closing '---' within {MAX_FRONT_MATTER} bytes.")
        return {}, _storable(text[:MAX_CARD_TEXT])
    if len(front) > MAX_FRONT_MATTER:
        raise BadCard(f"The front matter of README.md is larger than {MAX_FRONT_MATTER} bytes.")
    try:
        _check_shape(front)
        loaded = yaml.load(front, Loader=_CardLoader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise BadCard(f"The front matter of README.md is not valid YAML: {_where(error)}.") from None
    except (ValueError, RecursionError, TypeError, AttributeError, OverflowError) as error:
        raise BadCard(f"The front matter of README.md cannot be read: {str(error)[:200]}.") from None
    if loaded is None:
        return {}, _storable(text[:MAX_CARD_TEXT])
    if not isinstance(loaded, dict):
        raise BadCard("The front matter of README.md must hold fields, e.g. 'license: apache-2.0'.")
    return _plain(loaded), _storable(text[:MAX_CARD_TEXT])


def _check_shape(front: str) -> None:
    depth = 0
    for nodes, event in enumerate(yaml.parse(front, Loader=_Loader)):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise BadCard("The front matter of README.md uses YAML anchors, which cards may not; write values out.")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if nodes > MAX_NODES or depth > MAX_DEPTH:
            raise BadCard(
                f"The front matter of README.md is too deep or too long (at most {MAX_NODES} values, {MAX_DEPTH} deep)."
            )


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or "unreadable"
    return f"{problem} (line {mark.line + 2}, column {mark.column + 1})" if mark else str(problem)[:200]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return _storable(value if isinstance(value, str) else str(value))


def _key(key: Hashable) -> str:
    return _storable(key if isinstance(key, str) else str(key))


def _storable(text: str) -> str:
    """Text that every database takes: no NUL, no half surrogate."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def texts(value: Any, limit: int = 200) -> tuple[str, ...]:
    """A card field that may be one text or a list of them, as a tuple of non-empty texts."""
    items = value if isinstance(value, list) else [value]
    return tuple(
        str(item).strip() for item in items[:limit] if isinstance(item, (str, int, float)) and str(item).strip()
    )


def tags_of(card: dict[str, Any], paths: set[str], config: dict[str, Any]) -> tuple[str, ...]:
    """The tags that clients filter by, as the public hub makes them from a card (protocol section 1.4)."""
    found = [*texts(card.get("library_name"))]
    if not found and "config.json" in paths and config.get("architectures"):
        found.append("transformers")
    if any(path.endswith(".safetensors") for path in paths):
        found.append("safetensors")
    if any(path.endswith(".gguf") for path in paths):
        found.append("gguf")
    found += texts(config.get("model_type"))
    found += texts(card.get("pipeline_tag"))
    found += texts(card.get("tags"))
    found += texts(card.get("language"))
    prefixes = (("datasets", "dataset:"), ("models", "model:"), ("license", "license:"), ("base_model", "base_model:"))
    for field, prefix in prefixes:
        found += [prefix + text for text in texts(card.get(field))]
    relation = texts(card.get("base_model_relation"))
    found += [f"base_model:{relation[0]}:{base}" for base in texts(card.get("base_model")) if relation]
    for field in ("task_categories", "task_ids", "size_categories"):
        found += [f"{field}:{text}" for text in texts(card.get(field))]
    return tuple(dict.fromkeys(tag[:200] for tag in [*found, "region:us"]))


def title_of(text: str) -> str:
    """The first heading of a card's text, "" when there is none."""
    for line in text.splitlines()[:200]:
        if line.startswith("# ") and line[2:].strip():
            return line[2:].strip()[:200]
    return ""
