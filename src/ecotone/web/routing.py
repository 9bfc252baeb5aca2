"""Pages of routes and backends for administrators: lists, and one of each to change."""

from typing import Any

import msgspec
from starlette.responses import Response

from ecotone.gateway import Backend, Route, RouteOptions
from ecotone.gateway.routing import STRATEGIES
from ecotone.vocabulary import Conflict, Forbidden, Invalid, Location, NotFound, Tier
from ecotone.web.endpoint import Visit
from ecotone.web.managing import Fields, allowance_of, decimal_of, number_of, summary_of, told_of

PATH = "/ecotone/routes"
BACKENDS = "/ecotone/backends"


def listed(visit: Visit) -> Response:
    """GET /ecotone/routes"""
    return _listed(visit, {})


def _listed(visit: Visit, told: Fields, problem: str = "") -> Response:
    services = visit.services
    limits = {one.scope: summary_of(one.allowance) for one in services.limits.list()}
    answer = visit.page(
        "routes.html",
        routes=[(route, _how(route)) for route in services.routes.list()],
        backends=[(backend, limits.get(f"backend:{backend.name}", "")) for backend in services.backends.list()],
        told=told,
        problem=problem,
        **_WORDS,
    )
    answer.status_code = 400 if problem else 200
    return answer


def create(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/routes: `act` is route or backend."""
    acts = {"route": _save_route, "backend": _save_backend}
    if fields.get("act") not in acts:
        raise Invalid("That is nothing this form does.", param="act")
    name = fields.get("name" if fields["act"] == "route" else "backend", "").strip()
    try:
        _check_free(visit, fields["act"], name)
        return acts[fields["act"]](visit, name, fields)
    except (Invalid, Conflict, Forbidden) as error:
        return _listed(visit, fields, error.message)


def _check_free(visit: Visit, kind: str, name: str) -> None:
    kept = visit.services.routes if kind == "route" else visit.services.backends
    try:
        kept.get(name)
    except NotFound:
        return
    raise Conflict(f"There is a {kind} {name!r} already; open it to change it.", param="name")


# -- routes ----------------------------------------------------------------------------------------------------------
def show_route(visit: Visit) -> Response:
    """GET /ecotone/routes/{name}"""
    route = visit.services.routes.get(visit.path["name"])
    return _route_page(visit, route, _route_told(route), saved="saved" in visit.query)


def act_on_route(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/routes/{name}: `act` is save or remove."""
    services, route = visit.services, visit.services.routes.get(visit.path["name"])
    if fields.get("act") == "remove":
        services.intend("remove_route", visit.actor, route=route.name)
        services.routes.remove(route.name)
        services.note("route.removed", visit.actor, route=route.name)
        return visit.redirect(PATH)
    if fields.get("act") != "save":
        raise Invalid("That is nothing this form does.", param="act")
    try:
        return _save_route(visit, route.name, fields)
    except Invalid as error:
        return _route_page(visit, route, _route_told(route) | fields, problem=error.message)


def _save_route(visit: Visit, name: str, fields: Fields) -> Response:
    services = visit.services
    to, weights = _candidates(fields.get("to", ""))
    usual = RouteOptions()
    options = RouteOptions(
        shadow=fields.get("shadow", "").strip() or None,
        shadow_share=decimal_of(fields, "shadow_share", "The share", usual.shadow_share),
        retries=_or(number_of(fields, "retries", "Further tries"), usual.retries),
        connect_seconds=decimal_of(fields, "connect_seconds", "Seconds to connect", 0.0),
        first_seconds=decimal_of(fields, "first_seconds", "Seconds to the first token", 0.0),
        idle_seconds=decimal_of(fields, "idle_seconds", "Seconds between tokens", 0.0),
        cache_seconds=_or(number_of(fields, "cache_seconds", "Seconds in the cache"), 0),
        alias=fields.get("alias") == "yes",
        sticky=fields.get("sticky") == "yes",
    )
    services.intend("set_route", visit.actor, route=name[:96])
    strategy = fields.get("strategy", "fallback")
    route = services.routes.set(name, to, actor=visit.actor, strategy=strategy, weights=weights, options=options)
    services.note("route.set", visit.actor, route=name, to=list(to), terms=msgspec.to_builtins(route))
    return visit.redirect(f"{PATH}/{route.name}?saved=1")


def _or(value: int | None, usual: int) -> int:
    return usual if value is None else value


def _candidates(text: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Lines with a candidate each, a weight after `=` where the strategy asks for one."""
    lines = [line.strip().partition("=") for line in text.splitlines() if line.strip()]
    try:
        weights = tuple(float(weight) if equals else 1.0 for _, equals, weight in lines)
    except ValueError:
        raise Invalid("A weight is a number: openai/gpt-4o = 2.", param="to") from None
    told = any(equals for _, equals, _ in lines)
    return tuple(name.strip() for name, _, _ in lines), weights if told else ()


def _route_told(route: Route) -> dict[str, str]:
    weights = route.weights or (None,) * len(route.to)
    lines = [
        model if weight is None else f"{model} = {weight:g}" for model, weight in zip(route.to, weights, strict=True)
    ]
    options = route.options
    seconds = ("connect_seconds", "first_seconds", "idle_seconds", "cache_seconds")
    return {
        "to": "\n".join(lines),
        "strategy": route.strategy,
        "retries": str(options.retries),
        "shadow": options.shadow or "",
        "shadow_share": f"{options.shadow_share:g}" if options.shadow else "",
        "alias": "yes" if options.alias else "",
        "sticky": "yes" if options.sticky else "",
        **{name: f"{getattr(options, name):g}" if getattr(options, name) else "" for name in seconds},
    }


def _route_page(
    visit: Visit, route: Route, told: dict[str, str], *, saved: bool = False, problem: str = ""
) -> Response:
    answer = visit.page(
        "route.html",
        route=route,
        told=told,
        warnings=visit.services.route_warnings(route),
        saved=saved,
        problem=problem,
        **_WORDS,
    )
    answer.status_code = 400 if problem else 200
    return answer


def _how(route: Route) -> str:
    """A route's options in a line."""
    options = route.options
    parts = [
        f"answers kept {options.cache_seconds} s" if options.cache_seconds else "",
        f"copies to {options.shadow}" if options.shadow else "",
        "sticky" if options.sticky else "",
        "under its own name" if options.alias else "",
    ]
    return ", ".join(filter(None, parts))


# -- backends --------------------------------------------------------------------------------------------------------
def show_backend(visit: Visit) -> Response:
    """GET /ecotone/backends/{name}"""
    backend = visit.services.backends.get(visit.path["name"])
    return _backend_page(visit, backend, _backend_told(visit, backend), saved="saved" in visit.query)


def act_on_backend(visit: Visit, fields: Fields) -> Response:
    """POST /ecotone/backends/{name}: `act` is save or remove."""
    services, backend = visit.services, visit.services.backends.get(visit.path["name"])
    if fields.get("act") not in ("save", "remove"):
        raise Invalid("That is nothing this form does.", param="act")
    try:
        if fields["act"] == "save":
            return _save_backend(visit, backend.name, fields)
        services.intend("remove_backend", visit.actor, backend=backend.name)
        services.backends.remove(backend.name)
    except (Invalid, Conflict, Forbidden) as error:
        return _backend_page(visit, backend, _backend_told(visit, backend) | fields, problem=error.message)
    services.note("backend.removed", visit.actor, backend=backend.name)
    return visit.redirect(PATH)


def _save_backend(visit: Visit, name: str, fields: Fields) -> Response:
    services = visit.services
    allowance = allowance_of(fields).checked()
    services.intend("set_backend", visit.actor, backend=name[:64])
    backend, _ = services.backends.set(
        name,
        dialect=_dialect(services, name),
        url=fields.get("url", "").strip(),
        key_env=fields.get("key_env", "").strip() or None,
        location=_word(Location, fields, "location"),
        tier=_word(Tier, fields, "tier"),
        terms=fields.get("terms", "").strip() or None,
        actor=visit.actor,
    )
    services.limits.set(f"backend:{name}", allowance, actor=visit.actor)
    told = {"backend": msgspec.to_builtins(backend), "limits": msgspec.to_builtins(allowance)}
    services.note("backend.set", visit.actor, **told)
    return visit.redirect(f"{BACKENDS}/{backend.name}?saved=1")


def _dialect(services: Any, name: str) -> str:
    """The dialect that a backend has, which no form asks for."""
    try:
        return str(services.backends.get(name).dialect)
    except NotFound:
        return "openai"


def _backend_told(visit: Visit, backend: Backend) -> dict[str, str]:
    return {
        "url": backend.url,
        "key_env": backend.key_env or "",
        "location": str(backend.location),
        "tier": str(backend.tier),
        "terms": backend.terms or "",
        **told_of(visit.services.limits.allowance(f"backend:{backend.name}")),
    }


def _backend_page(
    visit: Visit, backend: Backend, told: dict[str, str], *, saved: bool = False, problem: str = ""
) -> Response:
    answer = visit.page("backend.html", backend=backend, told=told, saved=saved, problem=problem, **_WORDS)
    answer.status_code = 400 if problem else 200
    return answer


_WORDS = {
    "strategies": tuple((word, word) for word in STRATEGIES),
    "locations": tuple((str(word), str(word)) for word in Location),
    "tiers": tuple((str(word), str(word).replace("_", " ")) for word in Tier),
}


def _word(kind: Any, fields: Fields, name: str) -> Any:
    try:
        return kind(fields.get(name, ""))
    except ValueError:
        raise Invalid(f"{name} is one of {', '.join(map(str, kind))}.", param=name) from None
