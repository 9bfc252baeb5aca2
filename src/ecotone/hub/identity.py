"""Who the caller is and what they may (protocol section 1.2); noise that clients send, answered cheaply."""

import re
from typing import Any

from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ecotone.accounts import Actor, TokenInfo
from ecotone.hub.endpoint import Call, api_routes, handle, need_writer, plain_route
from ecotone.hub.errors import NotSupported
from ecotone.hub.infos import moment
from ecotone.vocabulary import NotFound, RepoType, Role, Unauthenticated


def whoami(call: Call) -> Any:
    """GET /api/whoami-v2"""
    if call.actor.kind != "user":
        raise Unauthenticated("No token was sent; log in with `hf auth login`, or set HF_TOKEN.")
    token: TokenInfo = call.services.accounts.token(call.actor.token)
    shown: dict[str, Any] = {
        "displayName": _token_name(token),
        "role": "read" if call.actor.role is Role.READ else "write",
        "createdAt": moment(token.created),
    }
    if token.expires is not None:
        shown["expiresAt"] = moment(token.expires)
    return _user(call.actor) | {
        "type": "user",
        "email": None,
        "emailVerified": False,
        "isPro": False,
        "canPay": False,
        "orgs": [],
        "auth": {"type": "access_token", "accessToken": shown},
    }


def _user(actor: Actor) -> dict[str, Any]:
    return {"id": actor.name, "name": actor.name, "fullname": actor.name, "avatarUrl": ""}


def _token_name(token: TokenInfo) -> str:
    """The name under which clients keep a token, in a file with sections: letters, digits and a few signs."""
    return " ".join([token.user, *re.findall(r"[A-Za-z0-9_.-]+", token.note)])[:96]


def auth_check(call: Call) -> Any:
    """GET /api/{kind}/{id}/auth-check"""
    call.check_gate(call.model())
    return {}


def auth_check_write(call: Call) -> Any:
    """GET /api/{kind}/{id}/auth-check/write"""
    model = call.model()
    need_writer(call.actor)
    call.catalog.check_writer(model, call.actor)
    return {}


def user_overview(call: Call) -> Any:
    """GET /api/users/{user}/overview"""
    name = call.services.accounts.user_named(call.path["user"])
    if name is None:
        raise NotFound(f"There is no user {call.path['user'][:96]!r} here.", param="user")
    counts = call.catalog.counts(name, viewer=call.actor)
    return {
        "user": name,
        "fullname": name,
        "avatarUrl": "",
        "type": "user",
        "isPro": False,
        "orgs": [],
        "numLikes": call.catalog.likes_given(name, viewer=call.actor),
        "numFollowers": 0,
        "numFollowing": 0,
        **_counted(counts),
    }


def organisation_overview(call: Call) -> Any:
    """GET /api/organizations/{user}/overview: a namespace that is no user's, with what the caller sees of it."""
    name = call.path["user"]
    counts = call.catalog.counts(name, viewer=call.actor)
    if not counts or call.services.accounts.user_named(name) is not None:
        raise NotFound(f"There is no organisation {name[:96]!r} here.", param="organization")
    return {
        "name": name,
        "fullname": name,
        "avatarUrl": "",
        "type": "org",
        "isVerified": False,
        "numUsers": 0,
        "numFollowers": 0,
        **_counted(counts),
    }


def _counted(counts: dict[RepoType, int]) -> dict[str, int]:
    words = {RepoType.MODEL: "numModels", RepoType.DATASET: "numDatasets", RepoType.SPACE: "numSpaces"}
    return {word: counts.get(kind, 0) for kind, word in words.items()}


def nobody(_call: Call) -> Any:
    """Followers and members: there are none here."""
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
        plain_route("/api/organizations/{user}/overview", organisation_overview),
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
    return [Route("/api/{rest:path}", handle(unsupported), methods=methods)]
