"""Branches and tags of a repository: seen by all, made and deleted by its writers."""

from dataclasses import dataclass
from datetime import datetime

from starlette.responses import Response

from ecotone.catalog import DEFAULT_BRANCH, Model, Ref, RevisionNotFound
from ecotone.vocabulary import Conflict, EcotoneError, Invalid
from ecotone.web.endpoint import Visit, address
from ecotone.web.files import place
from ecotone.web.form_bodies import Form
from ecotone.web.repository import may_write
from ecotone.web.writing import writable

MOST_SHOWN = 500
_MAIN = f"refs/heads/{DEFAULT_BRANCH}"
KINDS = {"branch": "refs/heads/", "tag": "refs/tags/"}


@dataclass(frozen=True, slots=True)
class Line:
    """A ref with the commit it points at."""

    ref: Ref
    title: str
    date: datetime | None
    may_go: bool


def show(visit: Visit, sent: Form, problem: EcotoneError | None) -> Response:
    """GET /{id}/refs"""
    model = visit.stored_model()
    refs = visit.catalog.refs(model)
    known = visit.catalog.titles(model, (r.target for r in (*refs.branches, *refs.tags)))
    writes = may_write(visit, model)

    def lines(group: tuple[Ref, ...]) -> list[Line]:
        found = [(r, known.get(r.target, ("", None))) for r in group[:MOST_SHOWN]]
        return [Line(r, title, date, writes and r.ref != _MAIN) for r, (title, date) in found]

    context = place(visit, model, DEFAULT_BRANCH, refs, "refs") | {"may_write": writes}
    return visit.page(
        "refs.html",
        **context,
        branches=lines(refs.branches),
        tags=lines(refs.tags),
        left_out=max(0, len(refs.branches) - MOST_SHOWN) + max(0, len(refs.tags) - MOST_SHOWN),
        sent=sent.fields if problem else {},
        problem=problem.message if problem else "",
    )


def create(visit: Visit, sent: Form) -> Response:
    """POST /{id}/refs"""
    model = writable(visit)
    kind, name, start = sent["kind"], sent["name"].strip(), sent["start"].strip() or DEFAULT_BRANCH
    if kind not in KINDS:
        raise Invalid(f"kind is {kind[:40]!r}; expected branch or tag.", param="kind")
    visit.services.intend(f"{kind}.create", visit.actor, model=model.id, ref=KINDS[kind] + name[:200])
    if kind == "branch":
        made = visit.catalog.create_branch(model, name, actor=visit.actor, start=start)
    else:
        made = visit.catalog.create_tag(model, name, actor=visit.actor, rev=start, message=sent["message"][:2000])
    _note(visit, f"{kind}.create", model, made)
    return visit.redirect(f"{address(model)}/refs")


def show_delete(visit: Visit, sent: Form, problem: EcotoneError | None) -> Response:
    """GET /{id}/refs/delete?ref=refs/heads/x: asks before it is done"""
    model = writable(visit)
    kind, ref = _named(visit, model, sent["ref"] or visit.query.get("ref", ""))
    return visit.page(
        "confirm.html",
        **place(visit, model, DEFAULT_BRANCH, visit.catalog.refs(model), "refs"),
        title=f"Delete the {kind} {ref.name}?",
        told=f"It points at commit {ref.target[:12]}. What only this {kind} leads to can no longer be found by a name.",
        back=f"{visit.root}{address(model)}/refs",
        word=f"Delete the {kind}",
        asks_message=False,
        message="",
        hidden={"ref": ref.ref, "target": ref.target},
        problem=problem.message if problem else "",
    )


def delete(visit: Visit, sent: Form) -> Response:
    """POST /{id}/refs/delete"""
    model = writable(visit)
    kind, ref = _named(visit, model, sent["ref"])
    if ref.target != sent["target"]:
        raise Conflict(
            f"{ref.name} has moved on to {ref.target[:12]} since you looked; look again before you delete it."
        )
    visit.services.intend(f"{kind}.delete", visit.actor, model=model.id, ref=ref.ref)
    if kind == "branch":
        visit.catalog.delete_branch(model, ref.name, actor=visit.actor)
    else:
        visit.catalog.delete_tag(model, ref.name, actor=visit.actor)
    _note(visit, f"{kind}.delete", model, ref)
    return visit.redirect(f"{address(model)}/refs")


def _named(visit: Visit, model: Model, full: str) -> tuple[str, Ref]:
    refs = visit.catalog.refs(model)
    for kind, group in (("branch", refs.branches), ("tag", refs.tags)):
        for ref in group:
            if ref.ref == full and full != _MAIN:
                return kind, ref
    raise RevisionNotFound(model.id, full[:200])


def _note(visit: Visit, act: str, model: Model, ref: Ref) -> None:
    visit.services.note(act, visit.actor, model=model.id, repo_type=model.repo_type.value, ref=ref.ref, at=ref.target)
