"""Making, deleting, moving and changing repositories; branches, tags, commits, likes (protocol section 1.3)."""

from typing import Any

import msgspec
from starlette.responses import Response
from starlette.routing import BaseRoute

from ecotone.catalog import Model
from ecotone.hub.endpoint import (
    Call,
    answer,
    api_routes,
    cursor_number,
    need_user,
    need_writer,
    page_after,
    plain_route,
    type_named,
)
from ecotone.hub.infos import commit_item, moment
from ecotone.vocabulary import Invalid, RepoType

LIKES = 1000


class NewRepo(msgspec.Struct):
    name: str
    organization: str | None = None
    type: str | None = None
    visibility: str | None = None
    private: bool | None = None


class RepoName(msgspec.Struct):
    name: str
    organization: str | None = None
    type: str | None = None


class Move(msgspec.Struct, rename="camel"):
    from_repo: str
    to_repo: str
    type: str | None = None


class RepoSettings(msgspec.Struct):
    gated: str | bool | None = None
    visibility: str | None = None
    private: bool | None = None


class NewBranch(msgspec.Struct, rename="camel"):
    starting_point: str | None = None


class NewTag(msgspec.Struct):
    tag: str
    message: str | None = None


def create(call: Call) -> Any:
    """POST /api/repos/create"""
    need_writer(call.actor)
    new = call.json(NewRepo)
    repo_type = type_named(new.type)
    repo_id = _full_id(new.organization, new.name, call)
    call.services.intend("repository.create", call.actor, model=repo_id)
    made = call.catalog.create(
        repo_id,
        repo_type=repo_type,
        private=_private(new.visibility, new.private) or False,
        actor=call.actor,
    )
    _note(call, "repository.create", made)
    return {"url": call.url(made), "name": made.id, "id": f"{made.key:024x}"}


def delete(call: Call) -> Any:
    """DELETE /api/repos/delete"""
    need_writer(call.actor)
    named = call.json(RepoName)
    model = call.catalog.model(
        _full_id(named.organization, named.name, call), viewer=call.actor, repo_type=type_named(named.type)
    )
    call.services.intend("repository.delete", call.actor, model=model.id)
    call.catalog.delete(model, call.actor)
    _note(call, "repository.delete", model)
    return Response(b"OK", media_type="text/plain")


def move(call: Call) -> Any:
    """POST /api/repos/move"""
    need_writer(call.actor)
    asked = call.json(Move)
    model = call.catalog.model(asked.from_repo, viewer=call.actor, repo_type=type_named(asked.type))
    call.services.intend("repository.move", call.actor, model=model.id, to=asked.to_repo[:200])
    moved = call.catalog.move(model, asked.to_repo, actor=call.actor)
    _note(call, "repository.move", moved, was=model.id)
    return {"url": call.url(moved)}


def settings(call: Call) -> Any:
    """PUT /api/{kind}/{id}/settings"""
    need_writer(call.actor)
    asked = call.json(RepoSettings)
    if asked.gated is True:
        raise Invalid("gated is true; expected 'auto', 'manual' or false.", param="gated")
    model, private = call.model(), _private(asked.visibility, asked.private)
    call.services.intend("repository.settings", call.actor, model=model.id, private=private)
    changed = call.catalog.update(model, actor=call.actor, private=private, gated=asked.gated)
    _note(call, "repository.settings", changed, private=changed.private, gated=changed.gated)
    return {"private": changed.private, "gated": changed.gated or False}


def _full_id(namespace: str | None, name: str, call: Call) -> str:
    if "/" in name:
        return name
    return f"{namespace or call.actor.name}/{name}"


def _private(visibility: str | None, private: bool | None) -> bool | None:
    if visibility is None:
        return private
    if visibility not in ("public", "private"):
        raise Invalid(f"visibility is {visibility!r}; this hub knows public and private.", param="visibility")
    return visibility == "private"


def _note(call: Call, act: str, model: Model, **what: Any) -> None:
    call.services.note(act, call.actor, model=model.id, repo_type=model.repo_type.value, **what)


# -- refs and commits ------------------------------------------------------------------------------------------------
def refs(call: Call) -> Any:
    """GET /api/{kind}/{id}/refs"""
    found = call.catalog.refs(call.model())
    shown = {
        kind: [{"name": r.name, "ref": r.ref, "targetCommit": r.target} for r in group]
        for kind, group in (
            ("branches", found.branches),
            ("converts", ()),
            ("tags", found.tags),
            ("pullRequests", found.pull_requests),
        )
    }
    if not call.flag("include_prs"):
        del shown["pullRequests"]
    return shown


def create_branch(call: Call) -> Any:
    """POST /api/{kind}/{id}/branch/{branch}"""
    need_writer(call.actor)
    asked = call.json(NewBranch)
    made = call.catalog.create_branch(call.model(), call.path["branch"], actor=call.actor, start=asked.starting_point)
    return {"name": made.name, "ref": made.ref, "targetCommit": made.target}


def delete_branch(call: Call) -> Any:
    """DELETE /api/{kind}/{id}/branch/{branch}"""
    need_writer(call.actor)
    call.catalog.delete_branch(call.model(), call.path["branch"], actor=call.actor)
    return {}


def create_tag(call: Call) -> Any:
    """POST /api/{kind}/{id}/tag/{rev}"""
    need_writer(call.actor)
    asked = call.json(NewTag)
    made = call.catalog.create_tag(
        call.model(), asked.tag, actor=call.actor, rev=call.path["tag"], message=asked.message or ""
    )
    return {"name": made.name, "ref": made.ref, "targetCommit": made.target}


def delete_tag(call: Call) -> Any:
    """DELETE /api/{kind}/{id}/tag/{tag}"""
    need_writer(call.actor)
    call.catalog.delete_tag(call.model(), call.path["tag"], actor=call.actor)
    return {}


def commits(call: Call) -> Any:
    """GET /api/{kind}/{id}/commits/{rev}"""
    model = call.model()
    page = call.number("p", 0, 100_000)
    limit = call.number("limit", 50, 1000) or 50
    found = call.catalog.commits(model, call.path["rev"], start=page * limit, limit=limit + 1)
    formatted = "formatted" in call.query.getlist("expand[]") + call.query.getlist("expand")
    headers = {"x-total-count": str(len(found))}
    if len(found) > limit:
        del headers["x-total-count"]
        headers["link"] = f'<{next_page(call, p=str(page + 1))}>; rel="next"'
    return answer([commit_item(r, formatted=formatted) for r in found[:limit]], headers=headers)


def next_page(call: Call, **changes: str) -> str:
    """The absolute address of the same listing with other query parameters."""
    url = call.request.url.include_query_params(**changes)
    return f"{call.base}{call.request.scope['path']}?{url.query}"


# -- likes and settings of the caller --------------------------------------------------------------------------------
def like(call: Call) -> Any:
    """POST /api/{kind}/{id}/like"""
    need_user(call.actor)
    call.catalog.like(call.model(), call.actor, likes=True)
    return {}


def unlike(call: Call) -> Any:
    """DELETE /api/{kind}/{id}/like"""
    need_user(call.actor)
    call.catalog.like(call.model(), call.actor, likes=False)
    return {}


def likers(call: Call) -> Any:
    """GET /api/{kind}/{id}/likers"""
    limit = call.number("limit", LIKES, LIKES) or LIKES
    found = call.catalog.likers(call.model(), after=call.query.get("cursor", "")[:96], limit=limit + 1)
    rows = [{"user": u, "fullname": u, "avatarUrl": "", "type": "user"} for u in found[:limit]]
    return answer(rows, headers=page_after(call, found[limit - 1]) if len(found) > limit else {})


def likes_of(call: Call) -> Any:
    """GET /api/users/{user}/likes"""
    limit = call.number("limit", LIKES, LIKES) or LIKES
    found = call.catalog.liked_by(call.path["user"], viewer=call.actor, before=cursor_number(call), limit=limit + 1)
    rows = [
        {"createdAt": moment(created), "repo": {"name": model.id, "type": model.repo_type.value}}
        for model, created in found[:limit]
    ]
    return answer(rows, headers=page_after(call, found[limit - 1][0].key) if len(found) > limit else {})


def own_repositories(call: Call) -> Any:
    """GET /api/settings/repositories and /api/organizations/{namespace}/settings/repositories"""
    need_user(call.actor)
    author = call.path.get("namespace") or (None if call.actor.is_admin else call.actor.name)
    rows = []
    for repo_type in RepoType:
        for model in call.catalog.models(
            viewer=call.actor, author=author, stored=True, repo_type=repo_type, limit=1000
        ).models:
            size = call.catalog.revision(model).size if model.head else 0
            rows.append(
                {
                    "id": model.id,
                    "type": repo_type.value,
                    "updatedAt": moment(model.updated),
                    "visibility": "private" if model.private else "public",
                    "storage": size,
                }
            )
    return rows


def routes() -> list[BaseRoute]:
    return [
        plain_route("/api/repos/create", create, "POST"),
        plain_route("/api/repos/delete", delete, "DELETE"),
        plain_route("/api/repos/move", move, "POST"),
        plain_route("/api/settings/repositories", own_repositories),
        plain_route("/api/organizations/{namespace}/settings/repositories", own_repositories),
        plain_route("/api/users/{user}/likes", likes_of),
        *api_routes("/settings", {"PUT": settings}),
        *api_routes("/refs", {"GET": refs}),
        *api_routes("/branch/{branch:path}", {"POST": create_branch, "DELETE": delete_branch}),
        *api_routes("/tag/{tag:path}", {"POST": create_tag, "DELETE": delete_tag}),
        *api_routes("/commits/{rev}", {"GET": commits}),
        *api_routes("/like", {"POST": like, "DELETE": unlike}),
        *api_routes("/likers", {"GET": likers}),
    ]
