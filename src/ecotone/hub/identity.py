"""Who the caller is and what they may (protocol section 1.2); noise that clients send, answered cheaply."""

from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ecotone.accounts import Actor
from ecotone.hub.endpoint import Call, api_routes, check_gate, handle, need_user, need_writer, plain_route
from ecotone.hub.errors import NotSupported
from ecotone.vocabulary import RepoType, Role, Unauthenticated


def whoami(call: Call) -> Any:
    """GET /api/whoami-v2"""
    if call.actor.kind != "user":
        raise Unauthenticated("No token was sent; log in with `hf auth login`, or set HF_TOKEN.")
    return _user(call.actor) | {
        "type": "user",
        "email": None,
        "emailVerified": False,
        "isPro": False,
        "canPay": False,
        "orgs": [],
        "auth": {
            "type": "access_token",
            "accessToken": {
                "displayName": call.actor.name,
                "role": "read" if call.actor.role is Role.READ else "write",
                "createdAt": "1970-01-01T00:00:00.000Z",
            },
        },
    }


def _user(actor: Actor) -> dict[str, Any]:
    return {"id": actor.name, "name": actor.name, "fullname": actor.name, "avatarUrl": ""}


def auth_check(call: Call) -> Any:
    """GET /api/{kind}/{id}/auth-check"""
    check_gate(call.model(), call.actor)
    return {}


def auth_check_write(call: Call) -> Any:
    """GET /api/{kind}/{id}/auth-check/write"""
    model = call.model()
    need_writer(call.actor)
    call.catalog.check_writer(model, call.actor)
    return {}


def user_overview(call: Call) -> Any:
    """GET /api/users/{user}/overview and /api/organizations/{user}/overview"""
    name = call.path["user"]
    counts = {
        word: len(call.catalog.models(viewer=call.actor, author=name, stored=True, repo_type=kind, limit=1000).models)
        for word, kind in (
            ("numModels", RepoType.MODEL),
            ("numDatasets", RepoType.DATASET),
            ("numSpaces", RepoType.SPACE),
        )
    }
    return {"user": name, "name": name, "fullname": name, "avatarUrl": "", "type": "user", "orgs": [], **counts}


def nobody(call: Call) -> Any:
    """Followers and members: there are none here."""
    if call.path:
        need_user(call.actor)
    return []


def noise(_call: Call) -> Any:
    return Response(status_code=204)


def unsupported(_call: Call) -> Any:
    raise NotSupported


def routes() -> list[BaseRoute]:
    return [
        plain_route("/api/whoami-v2", whoami),
        *api_routes("/auth-check", {"GET": auth_check}),
        *api_routes("/auth-check/write", {"GET": auth_check_write}),
        plain_route("/api/users/{user}/overview", user_overview),
        plain_route("/api/organizations/{user}/overview", user_overview),
        plain_route("/api/organizations/{user}/members", nobody),
        plain_route("/api/organizations/{user}/followers", nobody),
        plain_route("/api/users/{user}/followers", nobody),
        plain_route("/api/users/{user}/following", nobody),
        plain_route("/api/agent-harnesses", unsupported),
        plain_route("/api/telemetry/{topic:path}", noise),
        plain_route("/v1/telemetry", noise, "POST"),
    ]


def last_routes() -> list[BaseRoute]:
    """What is left below the hub's addresses: not supported, said in JSON."""
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [
        Route(f"/api/{kind}{{rest:path}}", handle(unsupported), methods=methods)
        for kind in ("models", "datasets", "spaces", "kernels", "collections", "buckets", "settings", "jobs", "papers")
    ]
