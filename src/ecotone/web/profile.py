"""The page on which an administrator tells the organisation's profile, once at set-up and whenever it changes."""

import re
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ecotone.accounts import Actor, Profile
from ecotone.policy import asked_months
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid
from ecotone.web.answers import SECURITY_HEADERS, html, root_of
from ecotone.web.failures import failure_page
from ecotone.web.sessions import posted

PATH = "/ecotone/profile"
_ASSUME = "assume_below_thresholds"
_NUMBER = re.compile(r"[0-9]{1,15}|[0-9]{1,3}(?:[ ,][0-9]{3}){1,4}")
_GROUPING = re.compile(r"[ ,]")


@dataclass(frozen=True, slots=True)
class Month:
    """A past month whose users are asked, and by which texts."""

    name: str
    value: str
    asked_by: str


@dataclass(frozen=True, slots=True)
class Question:
    """A question where law is disputed, the choices, and what was chosen."""

    name: str
    means: str
    options: tuple[tuple[str, str], ...]
    chosen: str


async def profile(request: Request) -> Response:
    """GET and POST /ecotone/profile; administrators only."""
    try:
        if request.method == "POST":
            actor, fields = await posted(request)
            return await run_in_threadpool(_save, request, actor, fields)
        return await run_in_threadpool(_show, request)
    except EcotoneError as error:
        return await run_in_threadpool(failure_page, request, error)


def _show(request: Request) -> Response:
    _check(request.state.actor)
    services = request.app.state.services
    kept = services.accounts.profile()
    return _page(request, _told(kept.profile), kept.profile.positions, saved="saved" in request.query_params)


def _save(request: Request, actor: Actor, fields: dict[str, str]) -> Response:
    _check(actor)
    services = request.app.state.services
    request.state.actor = actor
    positions = {n.removeprefix("position."): v for n, v in fields.items() if n.startswith("position.") and v}
    try:
        kept = services.policy.set_profile(_profile(fields, positions), actor=actor)
    except Invalid as error:
        return _page(request, fields, positions, problem=error.message, status=400)
    services.note("profile.set", actor, profile=msgspec.to_builtins(kept.profile))
    return RedirectResponse(f"{root_of(services)}{PATH}?saved=1", 303, headers=dict(SECURITY_HEADERS))


def _check(actor: Actor) -> None:
    if not actor.is_admin:
        raise Forbidden("This page is for administrators. Log in with an administrator's token.")


def _profile(fields: dict[str, str], positions: dict[str, str]) -> Profile:
    months = {n.removeprefix("mau."): v for n, v in fields.items() if n.startswith("mau.") and v.strip()}
    if fields.get("month", "").strip():
        months[fields["month"].strip()] = fields.get("month_users", "")
    return Profile(
        users=_count("Monthly users", fields.get("users", "")),
        product_users=_count("Users of the product", fields.get("product_users", "")),
        affiliates=fields.get("affiliates", "yes") != "no",
        mau_at={month: _count(f"Users in {month}", text) or 0 for month, text in months.items()},
        revenue=_count("Revenue", fields.get("revenue", "")),
        domicile=fields.get("domicile", "").strip() or None,
        principal_place=fields.get("principal_place", "").strip() or None,
        positions={name: value for name, value in positions.items() if name != _ASSUME},
        assume_below_thresholds=fields.get(_ASSUME, "no") == "yes",
    )


def _count(what: str, text: str) -> int | None:
    if not text.strip():
        return None
    plain = _digits(text)
    if plain is None:
        raise Invalid(f"{what} is {text!r}; a whole number is expected, e.g. 50000 or 50,000.", param="users")
    return int(plain)


def _digits(text: str) -> str | None:
    """The digits of a whole number, written with or without commas or spaces between thousands."""
    return _GROUPING.sub("", text.strip()) if _NUMBER.fullmatch(text.strip()) else None


def _told(profile: Profile) -> dict[str, str]:
    """The profile as the form's fields hold it."""
    found = {
        name: "" if getattr(profile, name) is None else str(getattr(profile, name))
        for name in ("users", "product_users", "domicile", "principal_place")
    }
    found["revenue"] = "" if profile.revenue is None else f"{profile.revenue:.0f}"
    found["affiliates"] = "yes" if profile.affiliates else "no"
    found[_ASSUME] = "yes" if profile.assume_below_thresholds else "no"
    return found | {f"mau.{month}": str(users) for month, users in profile.mau_at.items()}


def _page(
    request: Request,
    told: dict[str, str],
    positions: dict[str, str],
    *,
    saved: bool = False,
    problem: str = "",
    status: int = 200,
) -> Response:
    services = request.app.state.services
    kept, knowledge = services.accounts.profile(), services.knowledge
    asked = asked_months(knowledge)
    names = sorted({*asked, *(n.removeprefix("mau.") for n in told if n.startswith("mau."))})
    context: dict[str, Any] = {
        "told": told,
        "kept": kept,
        "months": [Month(m, told.get(f"mau.{m}", ""), ", ".join(asked.get(m, ()))) for m in names],
        "questions": [_question(n, s, positions) for n, s in knowledge.positions.items() if n != _ASSUME],
        "knowledge": knowledge,
        "saved": saved,
        "problem": problem,
    }
    return html(request, "profile.html", status, **context)


def _question(name: str, spec: dict[str, Any], positions: dict[str, str]) -> Question:
    options = (("", "default: " + str(spec["default"])), *((str(v), str(v)) for v in spec["values"]))
    return Question(name, str(spec["means"]), options, positions.get(name, ""))
