"""Pages of withdrawal drills, for administrators: all of them, and one with what is left of it."""

from typing import Any

from starlette.responses import Response

from ecotone.vocabulary import Conflict, Invalid, NotFound
from ecotone.web.endpoint import Visit
from ecotone.web.managing import Fields

PATH = "/ecotone/withdrawals"
KINDS = {
    "deployment": "Deployments",
    "replica": "Replicas",
    "backend": "Backends",
    "route": "Routes",
    "job": "Work in progress",
    "caller": "Who has called it",
    "model": "The model",
    "derivative": "What was made from it",
    "dataset": "Datasets from it",
    "duplicate": "The same weights elsewhere here",
    "cached": "Whole copies in the cache",
    "object": "Bytes in the store",
    "recipient": "Who was let in",
    "downloads": "Downloads",
}
_MOST_SHOWN = 200


def listed(visit: Visit) -> Response:
    """GET /ecotone/withdrawals"""
    return _listed(visit, {"model": visit.query.get("model", "")[:250]})


def _listed(visit: Visit, told: Fields, problem: str = "") -> Response:
    answer = visit.page(
        "withdrawals.html", drills=visit.services.withdrawals.kept()[:_MOST_SHOWN], told=told, problem=problem
    )
    answer.status_code = 400 if problem else 200
    return answer


def create(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/withdrawals: make a drill."""
    model = fields.get("model", "").strip()[:250]
    revision = fields.get("revision", "").strip()[:64] or None
    try:
        visit.services.intend("make_drill", visit.actor, model=model, revision=revision)
        made = visit.services.drill(model, visit.actor, revision=revision, reason=fields.get("reason", ""))
    except (Invalid, Conflict, NotFound) as error:
        return _listed(visit, fields, error.message)
    return visit.redirect(f"{PATH}/{made.id}")


def show(visit: Visit) -> Response:
    """GET /ecotone/withdrawals/{id}"""
    return _drill_page(visit)


def act(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/withdrawals/{id}: check it off."""
    if fields.get("act") != "check":
        raise Invalid("That is nothing this form does.", param="act")
    visit.services.intend("check_drill", visit.actor, drill=visit.path["id"])
    return _drill_page(visit, visit.services.check_drill(visit.path["id"], visit.actor))


def _drill_page(visit: Visit, checked: Any = None) -> Response:
    drill = visit.services.withdrawals.get(visit.path["id"])
    states = {one.item.mark: one for one in checked.items} if checked is not None else {}
    groups = [
        (title, items[0].must, [(item, states.get(item.mark)) for item in items[:_MOST_SHOWN]], len(items))
        for kind, title in KINDS.items()
        if (items := [item for item in drill.items if item.kind == kind])
    ]
    groups.sort(key=lambda group: not any(state and state.state == "still there" for _, state in group[2]))
    return visit.page("withdrawal.html", drill=drill, checked=checked, groups=groups, kinds=KINDS)
