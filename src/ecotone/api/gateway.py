"""Backends, routes, the replay of a request and the ledger over REST."""

from typing import Annotated, Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.openapi import document
from ecotone.api.shapes import many, schema, text, within, word
from ecotone.gateway import Backend, Route, RouteOptions
from ecotone.gateway.addresses import ADDRESS
from ecotone.gateway.backends import NAME as BACKEND
from ecotone.gateway.backends import VARIABLE
from ecotone.gateway.dialects import DIALECTS
from ecotone.gateway.routing import (
    MOST,
    MOST_CACHE_SECONDS,
    MOST_RETRIES,
    MOST_SECONDS,
    MOST_WEIGHT,
    STRATEGIES,
    TARGET,
)
from ecotone.gateway.routing import NAME as ROUTE
from ecotone.vocabulary import Location, NotFound, Tier

_Target = Annotated[str, text(TARGET)]
_Seconds = Annotated[float, within(0, MOST_SECONDS)]


class BackendTerms(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    url: Annotated[str, text(ADDRESS)]
    dialect: Annotated[str, word(DIALECTS)] = "openai"
    key_env: Annotated[str, text(VARIABLE)] | None = None
    location: Location = Location.EXTERNAL
    tier: Tier = Tier.PAID
    terms: str | None = None


class NewBackend(BackendTerms, kw_only=True):
    name: Annotated[str, text(BACKEND)]


class RouteTerms(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Candidates in order, beside them their weights; seconds are 0 for the setting's, an answer is kept for none."""

    to: Annotated[list[_Target], many(MOST, least=1, once=True)]
    strategy: Annotated[str, word(STRATEGIES)] = "fallback"
    weights: Annotated[list[Annotated[float, within(0, MOST_WEIGHT)]], many(MOST)] = []
    shadow: _Target | None = None
    shadow_share: Annotated[float, within(0, 1, above=True)] = 1.0
    retries: Annotated[int, within(0, MOST_RETRIES)] = 1
    connect_seconds: _Seconds = 0.0
    first_seconds: _Seconds = 0.0
    idle_seconds: _Seconds = 0.0
    cache_seconds: Annotated[int, within(0, MOST_CACHE_SECONDS)] = 0
    alias: bool = False
    sticky: bool = False

    def options(self) -> RouteOptions:
        return RouteOptions(**{name: getattr(self, name) for name in RouteOptions.__struct_fields__})


@endpoint("POST", "/backends", need=Need.ADMIN, body=NewBackend, status=201, summary="Add a provider")
def add_backend(call: Call) -> Any:
    backend, warnings = call.services.backends.add(call.body.name, actor=call.actor, **_told(call.body))
    return _made(call, "backend.added", backend, warnings)


@endpoint(
    "PUT",
    "/backends/{name}",
    need=Need.ADMIN,
    body=BackendTerms,
    summary="Set a provider whole; made if absent",
    shapes={"name": schema(BACKEND)},
)
def set_backend(call: Call) -> Any:
    backend, warnings = call.services.backends.set(call.path["name"], actor=call.actor, **_told(call.body))
    return _made(call, "backend.set", backend, warnings)


def _told(terms: BackendTerms) -> dict[str, Any]:
    return {name: getattr(terms, name) for name in BackendTerms.__struct_fields__}


def _made(call: Call, act: str, backend: Backend, warnings: tuple[str, ...]) -> Any:
    shown = msgspec.to_builtins(backend)
    call.services.note(act, call.actor, backend=shown)
    return {**shown, "warnings": list(warnings)}


@endpoint("GET", "/backends", need=Need.USER, summary="All backends; never a key")
def list_backends(call: Call) -> Any:
    return call.services.backends.list()


@endpoint("GET", "/backends/{name}", need=Need.USER, summary="One backend; never its key")
def show_backend(call: Call) -> Any:
    return call.services.backends.get(call.path["name"])


@endpoint("DELETE", "/backends/{name}", need=Need.ADMIN, summary="Remove a backend")
def remove_backend(call: Call) -> Any:
    call.services.backends.remove(call.path["name"])
    call.services.note("backend.removed", call.actor, backend=call.path["name"])
    return {"removed": call.path["name"]}


@endpoint(
    "PUT",
    "/routes/{name}",
    need=Need.ADMIN,
    body=RouteTerms,
    summary="Set a route whole; made if absent",
    shapes={"name": schema(ROUTE)},
)
def set_route(call: Call) -> Any:
    new: RouteTerms = call.body
    route = call.services.routes.set(
        call.path["name"],
        tuple(new.to),
        actor=call.actor,
        strategy=new.strategy,
        weights=tuple(new.weights),
        options=new.options(),
    )
    shown = route_document(route)
    call.services.note("route.set", call.actor, route=route.name, to=list(route.to), terms=shown)
    return {**shown, "warnings": call.services.route_warnings(route)}


@endpoint("GET", "/routes", need=Need.USER, summary="All routes")
def list_routes(call: Call) -> Any:
    return [route_document(route) for route in call.services.routes.list()]


@endpoint("GET", "/routes/{name}", need=Need.USER, summary="One route")
def show_route(call: Call) -> Any:
    return route_document(call.services.routes.get(call.path["name"]))


def route_document(route: Route) -> dict[str, Any]:
    """A route as it is told: its options beside its candidates."""
    told: dict[str, Any] = msgspec.to_builtins(route)
    options: dict[str, Any] = told.pop("options")
    return told | options


@endpoint("DELETE", "/routes/{name}", need=Need.ADMIN, summary="Remove a route")
def remove_route(call: Call) -> Any:
    call.services.routes.remove(call.path["name"])
    call.services.note("route.removed", call.actor, route=call.path["name"])
    return {"removed": call.path["name"]}


@endpoint("GET", "/why/{request_id}", need=Need.USER, summary="Replay the decision on a request from the ledger")
def why_request(call: Call) -> Any:
    told = call.services.explain(call.path["request_id"])
    if told is None:
        raise NotFound(
            f"The ledger has no request {call.path['request_id']!r}; take the x-request-id of an answer. Requests that "
            "came to no decision (400, 401, 404, 413), or were refused by a rate (429), are not recorded.",
            param="request_id",
        )
    return told


@endpoint("GET", "/ledger/verify", need=Need.USER, summary="Verify every chain of the ledger from disk")
def verify_ledger(call: Call) -> Any:
    return call.services.verify_ledger()


@endpoint("GET", "/ledger/usage", need=Need.USER, summary="Tokens and cost by project and model, from the ledger")
def ledger_usage(call: Call) -> Any:
    return call.services.usage()


@endpoint("GET", "/openapi.json", need=Need.READ, summary="This API as an OpenAPI document")
def openapi_document(call: Call) -> Any:
    return document(call.services.settings.base_url)
