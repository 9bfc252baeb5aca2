"""A repository's settings: who sees it, who gets its files, its name, its end. For its author and administrators.

Each form says which setting it changes in `act`; the rules are the catalogue's, the same as for the hub's clients.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from ecotone.catalog import GATES, Model
from ecotone.vocabulary import EcotoneError, Invalid
from ecotone.web.endpoint import Visit, address
from ecotone.web.form_bodies import Form
from ecotone.web.repository import LISTS, head
from ecotone.web.writing import writable

_GATES = {"open": False, **{gate: gate for gate in GATES}}
_VISIBILITIES = {"public": False, "private": True}


def show(visit: Visit, sent: Form, problem: EcotoneError | None) -> Response:
    """GET /{id}/settings"""
    model = _settled(visit)
    return visit.page(
        "settings.html",
        **head(visit, model, "settings"),
        act=sent["act"] if problem else "",
        problem=problem.message if problem else "",
        new_name=sent["name"] if problem and sent["act"] == "rename" else model.name,
        confirmation=sent["confirmation"] if problem else "",
        done=visit.query.get("done", ""),
    )


def save(visit: Visit, sent: Form) -> Response:
    """POST /{id}/settings: `act` is visibility, gate, rename or delete."""
    model = _settled(visit)
    match sent["act"]:
        case "visibility":
            return _change(visit, model, private=_chosen(_VISIBILITIES, sent["visibility"], "visibility"))
        case "gate":
            return _change(visit, model, gated=_chosen(_GATES, sent["gate"], "gate"))
        case "rename":
            return _rename(visit, model, sent["name"].strip())
        case "delete":
            return _delete(visit, model, sent["confirmation"].strip())
        case other:
            raise Invalid(f"act is {other[:20]!r}; expected visibility, gate, rename or delete.", param="act")


def _settled(visit: Visit) -> Model:
    """The repository, when the visitor may settle it. Raises as `writable` and `Catalog.check_author` do."""
    model = writable(visit)
    visit.catalog.check_author(model, visit.actor)
    return model


def _chosen(choices: Mapping[str, Any], word: str, param: str) -> Any:
    if word not in choices:
        raise Invalid(f"{param} is {word[:20]!r}; expected {' or '.join(choices)}.", param=param)
    return choices[word]


def _change(visit: Visit, model: Model, *, private: bool | None = None, gated: str | bool | None = None) -> Response:
    visit.services.intend("repository.settings", visit.actor, model=model.id, private=private)
    changed = visit.catalog.update(model, actor=visit.actor, private=private, gated=gated)
    _note(visit, "settings", changed, private=changed.private, gated=changed.gated)
    return visit.redirect(f"{address(changed)}/settings?done={'gate' if private is None else 'visibility'}")


def _rename(visit: Visit, model: Model, name: str) -> Response:
    to = f"{model.namespace}/{name}"
    if to == model.id:
        raise Invalid(f"{model.id} has this name already; type another one.", param="name")
    visit.services.intend("repository.move", visit.actor, model=model.id, to=to[:200])
    moved = visit.catalog.move(model, to, actor=visit.actor)
    _note(visit, "move", moved, was=model.id)
    return visit.redirect(f"{address(moved)}/settings?done=rename")


def _delete(visit: Visit, model: Model, confirmation: str) -> Response:
    if confirmation != model.id:
        raise Invalid(f"Type {model.id} to delete it; {confirmation[:200]!r} is not its name.", param="confirmation")
    visit.services.intend("repository.delete", visit.actor, model=model.id)
    visit.catalog.delete(model, visit.actor)
    _note(visit, "delete", model)
    return visit.redirect(f"{LISTS[model.repo_type][1]}?{urlencode({'author': model.namespace})}")


def _note(visit: Visit, act: str, model: Model, **what: object) -> None:
    visit.services.note(f"repository.{act}", visit.actor, model=model.id, repo_type=model.repo_type.value, **what)
