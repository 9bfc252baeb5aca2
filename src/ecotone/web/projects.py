"""Pages of projects for administrators: all of them, and one with its bounds, limits, budgets, spending and keys."""

from typing import Any

import msgspec
from starlette.responses import Response

from ecotone.accounts import Bounds, KeyTerms, Project
from ecotone.database import utc_now
from ecotone.gateway import Allowance
from ecotone.gateway.budgets import began, read_budget, usd
from ecotone.vocabulary import Invalid, Mode, PersonalData, Purpose
from ecotone.web.endpoint import Visit
from ecotone.web.managing import Fields, allowance_of, end_of, number_of, summary_of, told_of, words_of

PATH = "/ecotone/projects"
MOST_KEYS = 200
_USER = "user_"


def listed(visit: Visit) -> Response:
    """GET /ecotone/projects"""
    return _listed(visit, {})


def create(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/projects"""
    services, name = visit.services, fields.get("name", "").strip()
    services.intend("create_project", visit.actor, project=name[:96])
    try:
        project = services.accounts.create_project(
            name,
            mode=_word(Mode, fields, "mode"),
            purpose=_word(Purpose, fields, "purpose"),
            personal_data=_word(PersonalData, fields, "personal_data"),
            actor=visit.actor,
        )
    except Invalid as error:
        return _listed(visit, fields, error.message)
    services.note("project.created", visit.actor, project=project.name)
    return visit.redirect(f"{PATH}/{project.name}")


def _listed(visit: Visit, told: Fields, problem: str = "") -> Response:
    services = visit.services
    limits = {one.scope: summary_of(one.allowance) for one in services.limits.list(actor=visit.actor)}
    keys: dict[str, int] = {}
    for key in services.accounts.keys(actor=visit.actor):
        keys[key.project] = keys.get(key.project, 0) + (key.state == "in force")
    month = services.spent(began("month", utc_now()))
    rows = [
        (p, keys.get(p.name, 0), limits.get(f"project:{p.name}", ""), usd(month.get(f"project:{p.name}", 0)))
        for p in services.accounts.projects()
    ]
    others = [(scope, line) for scope, line in limits.items() if not scope.startswith(("project:", "key:"))]
    return visit.page("projects.html", rows=rows, others=others, told=told, problem=problem, choices=_CHOICES)


def show(visit: Visit) -> Response:
    """GET /ecotone/projects/{name}"""
    project = visit.services.accounts.project(visit.path["name"])
    return _page(visit, project, _told(visit, project), saved="saved" in visit.query)


def act(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/projects/{name}: `act` is save or key."""
    project = visit.services.accounts.project(visit.path["name"])
    acts = {"save": _save, "key": _make_key}
    if fields.get("act") not in acts:
        raise Invalid("That is nothing this form does.", param="act")
    try:
        return acts[fields["act"]](visit, project, fields)
    except Invalid as error:
        return _page(visit, project, _told(visit, project) | fields, problem=error.message)


def _save(visit: Visit, project: Project, fields: Fields) -> Response:
    services, name = visit.services, project.name
    reason = fields.get("scan_reason", "")[:500]
    bounds = Bounds(
        owners=words_of(fields.get("owners", "")),
        models=words_of(fields.get("models", "")),
        networks=words_of(fields.get("networks", "")),
        tags=words_of(fields.get("tags", "")),
        scan=fields.get("scan", "yes") != "no",
        keep_days=number_of(fields, "keep_days", "Days") or 0,
    )
    allowances = {
        f"project:{name}": allowance_of(fields).checked(),
        f"project:{name}/user:*": allowance_of(fields, _USER).checked(),
    }
    services.intend("set_project", visit.actor, project=name)
    kept = services.accounts.set_project(
        name,
        mode=_word(Mode, fields, "mode"),
        purpose=_word(Purpose, fields, "purpose"),
        personal_data=_word(PersonalData, fields, "personal_data"),
        users=project.users,
        revenue=project.revenue,
        territory=project.territory,
        variables=project.variables,
        bounds=bounds,
        actor=visit.actor,
        scan_reason=reason,
    )
    for scope, allowance in allowances.items():
        services.limits.set(scope, allowance, actor=visit.actor)
    more: dict[str, Any] = {} if kept.bounds.scan else {"scan_reason": kept.scan_reason}
    limits = {scope: msgspec.to_builtins(allowance) for scope, allowance in allowances.items()}
    told = msgspec.to_builtins(kept.bounds)
    services.note("project.set", visit.actor, project=name, bounds=told, limits=limits, **more)
    return visit.redirect(f"{PATH}/{name}?saved=1")


def _make_key(visit: Visit, project: Project, fields: Fields) -> Response:
    services = visit.services
    terms = KeyTerms(
        note=fields.get("key_note", "").strip(),
        expires=end_of(fields),
        models=words_of(fields.get("key_models", "")),
        networks=words_of(fields.get("key_networks", "")),
    )
    allowance = Allowance(budgets=words_of(fields.get("key_budgets", "")))
    also = services.limits.with_key(project.name, allowance, actor=visit.actor)
    services.intend("create_key", visit.actor, project=project.name)
    info, secret = services.accounts.create_key(project.name, actor=visit.actor, terms=terms, also=also)
    services.note("key.created", visit.actor, project=project.name, key_id=info.id)
    return secret_page(visit, info, secret)


def secret_page(visit: Visit, info: Any, secret: str) -> Response:
    """The one page that holds a key's secret; no cache keeps it."""
    answer = visit.page("key_secret.html", key=info, secret=secret, base=visit.services.settings.base_url)
    answer.headers["cache-control"] = "no-store"
    return answer


def _page(visit: Visit, project: Project, told: dict[str, str], *, saved: bool = False, problem: str = "") -> Response:
    services = visit.services
    keys = list(reversed(services.accounts.keys(project.name, actor=visit.actor)))
    tags = [one for one in services.limits.list() if one.scope.startswith(f"project:{project.name}/tag:")]
    answer = visit.page(
        "project.html",
        project=project,
        keys=keys[:MOST_KEYS],
        more=len(keys) > MOST_KEYS,
        spending=_spending(visit, project.name),
        tags=[(one.scope.partition("/tag:")[2], summary_of(one.allowance)) for one in tags],
        told=told,
        choices=_CHOICES,
        saved=saved,
        problem=problem,
    )
    answer.status_code = 400 if problem else 200
    return answer


def _spending(visit: Visit, name: str) -> list[tuple[str, str, str, int]]:
    """Of each budget its window, what was spent in it, what may be, and the share in percent."""
    services, scope, found = visit.services, f"project:{name}", []
    budgets = [read_budget(text) for text in services.limits.allowance(scope).budgets]
    now = utc_now()
    for limit, window in budgets or [(0, "month")]:
        spent = services.spent(began(window, now)).get(scope, 0)
        share = min(100, spent * 100 // limit) if limit else 100 if budgets else 0
        found.append((window, usd(spent), usd(limit) if budgets else "", share))
    return found


def _told(visit: Visit, project: Project) -> dict[str, str]:
    """The project as the form's fields hold it."""
    bounds, limits = project.bounds, visit.services.limits
    lists = {name: ", ".join(getattr(bounds, name)) for name in ("owners", "models", "networks", "tags")}
    return {
        "mode": str(project.mode),
        "purpose": str(project.purpose),
        "personal_data": str(project.personal_data),
        "scan": "yes" if bounds.scan else "no",
        "scan_reason": project.scan_reason,
        "keep_days": str(bounds.keep_days) if bounds.keep_days else "",
        **lists,
        **told_of(limits.allowance(f"project:{project.name}")),
        **told_of(limits.allowance(f"project:{project.name}/user:*"), _USER),
    }


def _choices(kind: Any) -> tuple[tuple[str, str], ...]:
    return tuple((str(word), str(word).replace("_", " ")) for word in kind)


_CHOICES = {"mode": _choices(Mode), "purpose": _choices(Purpose), "personal_data": _choices(PersonalData)}


def _word(kind: Any, fields: Fields, name: str) -> Any:
    try:
        return kind(fields.get(name, ""))
    except ValueError:
        raise Invalid(f"{name} is one of {', '.join(map(str, kind))}.", param=name) from None
