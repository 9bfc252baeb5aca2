"""Backends, routes, the replay of a request and the ledger over REST."""

from typing import Any

import msgspec

from ecotone.api.endpoint import Call, Need, endpoint
from ecotone.api.openapi import document
from ecotone.vocabulary import Location, NotFound, Tier


class NewBackend(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    name: str
    url: str
    dialect: str = "openai"
    key_env: str | None = None
    location: Location = Location.EXTERNAL
    tier: Tier = Tier.PAID
    terms: str | None = None


class RouteTargets(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    to: list[str]


@endpoint("POST", "/backends", need=Need.ADMIN, body=NewBackend, status=201, summary="Add a provider")
def add_backend(call: Call) -> Any:
    new: NewBackend = call.body
    backend, warnings = call.services.backends.add(
        new.name,
        dialect=new.dialect,
        url=new.url,
        key_env=new.key_env,
        location=new.location,
        tier=new.tier,
        terms=new.terms,
        actor=call.actor,
    )
    shown = msgspec.to_builtins(backend)
    call.services.note("backend.added", call.actor, backend=shown)
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


@endpoint("PUT", "/routes/{name}", need=Need.ADMIN, body=RouteTargets, summary="Set a route's candidates in order")
def set_route(call: Call) -> Any:
    route = call.services.routes.set(call.path["name"], tuple(call.body.to), actor=call.actor)
    call.services.note("route.set", call.actor, route=route.name, to=list(route.to))
    warnings = [
        f"{target} is not in the catalogue and no backend has its name; requests pass it over until there is one"
        for target in route.to
        if not call.services.is_known(target)
    ]
    return {**msgspec.to_builtins(route), "warnings": warnings}


@endpoint("GET", "/routes", need=Need.USER, summary="All routes")
def list_routes(call: Call) -> Any:
    return call.services.routes.list()


@endpoint("GET", "/routes/{name}", need=Need.USER, summary="One route")
def show_route(call: Call) -> Any:
    return call.services.routes.get(call.path["name"])


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
            "came to no decision (400, 401, 404, 413) are not recorded.",
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
