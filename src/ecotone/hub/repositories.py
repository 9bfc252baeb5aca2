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
    need_user,
    need_writer,
    plain_route,
    private_of,
    type_named,
)
from ecotone.hub.infos import commit_item, moment
from ecotone.hub.pages import Key, page, unpack
from ecotone.vocabulary import Invalid

MOST_LISTED = 1000
_XET_STAYS = "Xet stays on for each repository here; clients without it use LFS, and both read the same files."


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


class RepoSettings(msgspec.Struct, rename="camel"):
    gated: str | bool | None = None
    visibility: str | None = None
    private: bool | None = None
    xet_enabled: bool | None = None


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
        private=private_of(new.visibility, new.private, repo_type) or False,
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
    model, private = call.model(), private_of(asked.visibility, asked.private, call.repo_type)
    call.services.intend("repository.settings", call.actor, model=model.id, private=private)
    changed = call.catalog.update(model, actor=call.actor, private=private, gated=asked.gated)
    _note(call, "repository.settings", changed, private=changed.private, gated=changed.gated)
    told = {"private": changed.private, "gated": changed.gated or False, "xetEnabled": True}
    warned = {"x-hf-warning": f"{changed.id} xet; {_XET_STAYS}"} if asked.xet_enabled is False else None
    return answer(told, headers=warned)


def _full_id(namespace: str | None, name: str, call: Call) -> str:
    if "/" in name:
        return name
    return f"{namespace or call.actor.name}/{name}"


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
    model, name = call.model(), call.path["branch"]
    call.services.intend("repository.create_branch", call.actor, model=model.id, name=name[:200])
    made = call.catalog.create_branch(model, name, actor=call.actor, start=asked.starting_point)
    _note(call, "repository.create_branch", model, ref=made.ref, revision=made.target)
    return {"name": made.name, "ref": made.ref, "targetCommit": made.target}


def delete_branch(call: Call) -> Any:
    """DELETE /api/{kind}/{id}/branch/{branch}"""
    need_writer(call.actor)
    model, name = call.model(), call.path["branch"]
    call.services.intend("repository.delete_branch", call.actor, model=model.id, name=name[:200])
    call.catalog.delete_branch(model, name, actor=call.actor)
    _note(call, "repository.delete_branch", model, name=name)
    return {}


def create_tag(call: Call) -> Any:
    """POST /api/{kind}/{id}/tag/{rev}"""
    need_writer(call.actor)
    asked = call.json(NewTag)
    model = call.model()
    call.services.intend("repository.create_tag", call.actor, model=model.id, name=asked.tag[:200])
    made = call.catalog.create_tag(
        model, asked.tag, actor=call.actor, rev=call.path["tag"], message=asked.message or ""
    )
    _note(call, "repository.create_tag", model, ref=made.ref, revision=made.target)
    return {"name": made.name, "ref": made.ref, "targetCommit": made.target}


def delete_tag(call: Call) -> Any:
    """DELETE /api/{kind}/{id}/tag/{tag}"""
    need_writer(call.actor)
    model, name = call.model(), call.path["tag"]
    call.services.intend("repository.delete_tag", call.actor, model=model.id, name=name[:200])
    call.catalog.delete_tag(model, name, actor=call.actor)
    _note(call, "repository.delete_tag", model, name=name)
    return {}


def commits(call: Call) -> Any:
    """GET /api/{kind}/{id}/commits/{rev}"""
    model = call.model()
    limit = call.number("limit", 50, MOST_LISTED) or 50
    start = call.number("p", 0, 100_000) * limit
    after = unpack(call, str)  # a commit: what is pushed meanwhile moves no page
    found = call.catalog.commits(model, after or call.path["rev"], start=0 if after else start, limit=limit + 1)
    formatted = "formatted" in call.query.getlist("expand[]") + call.query.getlist("expand")
    rows = [commit_item(r, formatted=formatted) for r in found[:limit]]
    return page(call, rows, more=found[limit].id if len(found) > limit else None)


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
    model, limit = call.model(), call.number("limit", MOST_LISTED, MOST_LISTED) or MOST_LISTED
    found = call.catalog.likers(model, after=unpack(call, str), limit=limit + 1)
    rows = [{"user": u, "fullname": u, "avatarUrl": "", "type": "user"} for u in found[:limit]]
    return page(call, rows, more=found[limit - 1] if len(found) > limit else None)


def likes_of(call: Call) -> Any:
    """GET /api/users/{user}/likes"""
    limit = call.number("limit", MOST_LISTED, MOST_LISTED) or MOST_LISTED
    found = call.catalog.liked_by(call.path["user"], viewer=call.actor, after=unpack(call, Key), limit=limit + 1)
    rows = [
        {"createdAt": moment(created), "repo": {"name": model.id, "type": model.repo_type.value}}
        for model, created in found[:limit]
    ]
    return page(call, rows, more=found[limit - 1][0].key if len(found) > limit else None)


def own_repositories(call: Call) -> Any:
    """GET /api/settings/repositories and /api/organizations/{namespace}/settings/repositories"""
    need_user(call.actor)
    author = call.path.get("namespace") or (None if call.actor.is_admin else call.actor.name)
    limit = call.number("limit", 100, MOST_LISTED) or 100
    found = call.catalog.repositories_of(author, viewer=call.actor, after=unpack(call, Key) or 0, limit=limit + 1)
    rows = [
        {
            "id": stored.model.id,
            "type": stored.model.repo_type.value,
            "updatedAt": moment(stored.model.updated),
            "visibility": "private" if stored.model.private else "public",
            "storage": stored.size,
        }
        for stored in found[:limit]
    ]
    return page(call, rows, more=found[limit - 1].model.key if len(found) > limit else None)


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
