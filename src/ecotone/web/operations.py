"""Pages for those who run the house: what runs, and why a request went where it went."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from ecotone.database import utc_now
from ecotone.vocabulary import Forbidden, NotFound
from ecotone.web.endpoint import Visit
from ecotone.web.explained import explained
from ecotone.web.refused import holder_of
from ecotone.web.rendering import moment

_MOST_ROWS = 50
_MOST_ID = 200


@dataclass(frozen=True, slots=True)
class Table:
    id: str
    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    empty: str
    command: str = ""


def status(visit: Visit) -> Response:
    """GET /ecotone/status; administrators only."""
    if not visit.actor.is_admin:
        raise Forbidden("This page is for administrators. Log in with an administrator's token.")
    services = visit.services
    return visit.page(
        "status.html",
        tables=[
            _deployments(services),
            _jobs(services),
            _backends(services),
            _routes(services),
            _projects(services),
            _rules(services),
        ],
        knowledge=services.knowledge,
        ledger=services.verify_ledger() if visit.query.get("verify") else None,
    )


def _deployments(services: Any) -> Table:
    rows = [
        (d.model, d.revision[:12], str(d.state), str(d.task or ""), ", ".join(d.projects) or "all", d.error or "")
        for d in services.engines.deployments()
    ]
    columns = ("Model", "Revision", "State", "Task", "For projects", "Error")
    return Table("deployments", "Engines", columns, rows, "Nothing is served.", "ecotone serve MODEL")


def _jobs(services: Any) -> Table:
    rows = [
        (j.id, j.kind, str(j.state), f"{j.progress:.0%}", j.actor, moment(j.created), j.error or j.message)
        for j in services.jobs.list()[:_MOST_ROWS]
    ]
    columns = ("Job", "Kind", "State", "Progress", "By", "Created", "Message")
    return Table("jobs", "Jobs", columns, rows, "No tuning run or audit was started yet.")


def _backends(services: Any) -> Table:
    rows = [
        (b.name, b.dialect, b.url, str(b.location), str(b.tier), b.terms or "not known")
        for b in services.backends.list()
    ]
    columns = ("Backend", "Dialect", "Address", "Location", "Tier", "Terms")
    return Table("backends", "Backends", columns, rows, "No provider was added.", "ecotone backend add NAME")


def _routes(services: Any) -> Table:
    rows = [(r.name, " → ".join(r.to)) for r in services.routes.list()]
    return Table(
        "routes",
        "Routes",
        ("Route", "Candidates in order"),
        rows,
        "No route was set.",
        "ecotone route set NAME --to MODEL",
    )


def _projects(services: Any) -> Table:
    spent: dict[str, tuple[int, int]] = {}
    for line in services.usage():
        requests, tokens = spent.get(line.project, (0, 0))
        spent[line.project] = (requests + line.requests, tokens + line.prompt_tokens + line.completion_tokens)
    rows = []
    for p in services.accounts.projects():
        requests, tokens = spent.get(p.name, (0, 0))
        use = f"{p.mode}, {p.purpose}".replace("_", " ")
        rows.append((p.name, use, str(p.personal_data), f"{requests:,}", f"{tokens:,}"))
    columns = ("Project", "Declared use", "Personal data", "Requests", "Tokens")
    return Table("projects", "Projects", columns, rows, "There is no project.")


def _rules(services: Any) -> Table:
    today = utc_now().date()
    rows = [
        (r.id, str(r.kind).replace("_", " "), r.subject, r.value or "", r.told, r.state(today))
        for r in services.policy.rules()
    ]
    columns = ("Rule", "Kind", "Subject", "Value", "Reason", "State")
    return Table("rules", "Rules of the organisation", columns, rows, "There is no rule.", "ecotone rule add")


def ask_why(visit: Visit) -> Response:
    """GET /ecotone/why?id=REQUEST: the form's way to the page of a request."""
    request_id = visit.query.get("id", "").strip()
    if 0 < len(request_id) <= _MOST_ID and all(c.isascii() and (c.isalnum() or c in "-_.") for c in request_id):
        return visit.redirect(f"/ecotone/why/{request_id}")
    return visit.page("why.html", told=None, request_id="", may_list=visit.actor.is_admin)


def why(visit: Visit) -> Response:
    """GET /ecotone/why/{id}; for users, as the API has it."""
    if visit.actor.kind != "user":
        raise Forbidden("The ledger is for users of this house. Log in to see why a request went where it went.")
    told: dict[str, Any] | None = visit.services.explain(visit.path["id"])
    if told is None:
        raise NotFound("The ledger has no request of that id; take the x-request-id of an answer.", param="request_id")
    return visit.page(
        "why.html",
        told=explained(told),
        request_id=visit.path["id"],
        may_list=visit.actor.is_admin,
        budget_page=_budget_page(visit, told),
    )


def _budget_page(visit: Visit, told: dict[str, Any]) -> str:
    """The path of the page on which this visitor changes the budget that refused; empty where there is none, or no
    more."""
    kind, name = holder_of(told)
    accounts = visit.services.accounts
    if not visit.actor.is_admin or kind not in ("project", "key"):
        return ""
    try:
        accounts.project(name) if kind == "project" else accounts.key(name)
    except NotFound:
        return ""
    return f"/ecotone/{kind}s/{name}"
