"""`use.toml`: the uses that a pipeline asks about. Reads and checks the file; knows no server.

[[use]]
name = "shop"
mode = "serve_api"
purpose = "commercial"
users = 50000
territory = ["DE"]
org.mau_at.2024-06 = 1000        # any variable of the knowledge base, dotted
[use.variables]                  # or by its name in quotes
"target_model" = "other_llm"

[parents]                        # for a folder: licences of parents that its card names
"team/base" = "apache-2.0"
[positions]                      # for a folder: choices where law is disputed
nc_internal = "allow"
"""

import datetime
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ecotone.vocabulary import Invalid, Mode, Purpose

_PLAIN: dict[str, tuple[type, ...]] = {
    "users": (int,),
    "revenue": (int, float),
    "territory": (list,),
    "modified": (bool,),
    "declared_licence": (str,),
    "date": (datetime.date, str),
}
_MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class AskedUse:
    """One use: its name, and the question as the REST API takes it, without the model."""

    name: str
    question: dict[str, Any]


@dataclass(frozen=True, slots=True)
class UseFile:
    uses: tuple[AskedUse, ...]
    parents: dict[str, str] = field(default_factory=dict)
    positions: dict[str, str] = field(default_factory=dict)


def read_uses(path: Path) -> UseFile:
    """The uses of a file. Raises Invalid, saying what was wrong and what is expected."""
    try:
        raw = path.read_bytes()
        if len(raw) > _MOST_BYTES:
            raise Invalid(f"{path} is larger than {_MOST_BYTES} bytes; a file of uses is expected.")
        told = tomllib.loads(raw.decode())
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise Invalid(f"{path} is no TOML: {error or 'nested too deeply'}.") from None
    tables = _tables(told, path)
    parents, positions = _texts(told.pop("parents", {}), "parents"), _texts(told.pop("positions", {}), "positions")
    if told:
        raise Invalid(f"{path} has {', '.join(sorted(told))}, where only use, parents and positions are expected.")
    names = [str(table.get("name", f"use {number}")) for number, table in enumerate(tables, 1)]
    if len(set(names)) < len(names):
        raise Invalid(f"{path} names two uses alike; give each its own name.")
    return UseFile(tuple(_use(n, t) for n, t in zip(names, tables, strict=True)), parents, positions)


def _tables(told: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The tables of uses: a list, named tables, or one use alone at the top."""
    if "mode" in told or "purpose" in told:
        alone = {k: told.pop(k) for k in list(told) if k not in ("parents", "positions")}
        return [{"name": path.stem, **alone}]
    found = told.pop("use", None)
    if isinstance(found, dict) and found and all(isinstance(t, dict) for t in found.values()) and "mode" not in found:
        return [{"name": name, **table} for name, table in found.items()]
    tables = [found] if isinstance(found, dict) else found
    if not isinstance(tables, list) or not tables or not all(isinstance(t, dict) for t in tables):
        raise Invalid(f'{path} declares no use; write [[use]] with mode = "serve_api" and purpose = "commercial".')
    return tables


def _use(name: str, table: dict[str, Any]) -> AskedUse:
    question: dict[str, Any] = {}
    for key, closed in (("mode", Mode), ("purpose", Purpose)):
        if table.get(key) not in list(closed):
            told = repr(table[key]) if key in table else "not told"
            raise Invalid(f"{key} of {name} is {told}; expected one of {', '.join(closed)}.", param=key)
        question[key] = table[key]
    variables: dict[str, Any] = {}
    for key, value in table.items():
        if key in ("name", "mode", "purpose"):
            continue
        if key in _PLAIN:
            if not isinstance(value, _PLAIN[key]) or (isinstance(value, bool) and key != "modified"):
                raise Invalid(f"{key} of {name} is {value!r}; {_PLAIN[key][0].__name__} is expected.", param=key)
            question[key] = value.isoformat() if isinstance(value, datetime.date) else value
        elif key == "variables" and isinstance(value, dict):
            variables |= flattened(value)
        elif "." in key or isinstance(value, dict):
            variables |= flattened({key: value})
        else:
            raise Invalid(
                f"{name} has {key!r}, which is not known; known: name, mode, purpose, {', '.join(_PLAIN)}, and "
                "variables in [use.variables].",
                param=key,
            )
    return AskedUse(name, {**question, "variables": variables})


def flattened(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted names: `{"org": {"mau": 5}}` as `{"org.mau": 5}`."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= flattened(value, f"{prefix}{key}.")
        else:
            found[prefix + key] = value.isoformat() if isinstance(value, datetime.date) else value
    return found


def _texts(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise Invalid(f'{name} is a table of texts, e.g. [{name}] "team/base" = "apache-2.0".', param=name)
    return dict(value)
