"""The question "what if this licence changed?" and its answer: frozen values that faces hand on."""

from datetime import date
from typing import Any

import msgspec

from ecotone.licences import Use
from ecotone.licences.decision import NOTICE


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`licence` is an entry, `unknown` or `withdrawn`; `revision` bounds it to one revision of the model, `day` is when
    everything is judged (today), `use` what is done with the models (else what projects declare)."""

    model: str
    licence: str
    revision: str | None = None
    day: date | None = None
    use: Use | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that differs, for these (projects, or `the use asked`). `clause` is what decides, `lost` and `gained`
    are duties."""

    who: tuple[str, ...]
    mode: str
    purpose: str
    before: str
    after: str
    allowed_before: bool
    allowed_after: bool
    clause: dict[str, str] | None = None
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


class ModelChange(msgspec.Struct, frozen=True, kw_only=True):
    """A model (or dataset) whose answers differ. `way`: the edges from the changed parent down to it."""

    model: str
    revision: str | None
    kind: str
    private: bool
    deleted: bool
    way: tuple[dict[str, str], ...]
    changes: tuple[Change, ...]


class CallChange(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment or backend whose calls are answered otherwise."""

    name: str
    revision: str | None
    changes: tuple[Change, ...]


class RouteChange(msgspec.Struct, frozen=True, kw_only=True):
    """A route with candidates whose answers differ; `projects` says for each that is concerned what it may still reach:
    `{"project", "before", "after", "not_concerned"}` with candidates in the route's order."""

    route: str
    candidates: tuple[str, ...]
    projects: tuple[dict[str, Any], ...]


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer. `looked_at` counts models, `changed` those that differ, of which `models` shows the first;
    `in_doubt`: models that only a suspected edge leads to, which counts once somebody confirms it. `cut`: the family is
    larger than what is walked. `held_by`: rules that hold in spite of the change."""

    model: str
    revision: str | None
    licence: str
    title: str
    replaces: tuple[str, ...]
    day: str
    looked_at: int
    changed: int
    counts: dict[str, int]
    models: tuple[ModelChange, ...]
    deployments: tuple[CallChange, ...]
    backends: tuple[CallChange, ...]
    routes: tuple[RouteChange, ...]
    projects: tuple[str, ...]
    in_doubt: tuple[str, ...] = ()
    held_by: tuple[str, ...] = ()
    cut: bool = False
    knowledge_base: str = ""
    notice: str = NOTICE
