"""Discussions and pull requests as clients read and change them (protocol section 1.10). Rules: `Catalog`, `Reviews`.

`POST .../discussions/{num}/update` is ours: it brings the branch's news into a pull request.
"""

from html import escape
from typing import Any, Literal

import msgspec
from starlette.routing import BaseRoute

from ecotone.catalog import Model, RevisionNotFound
from ecotone.catalog.differences import compare, unified
from ecotone.catalog.discussion import Discussion, Event
from ecotone.hub.endpoint import Call, api_routes, need_user
from ecotone.hub.infos import moment
from ecotone.vocabulary import Invalid

PAGE = 50
HIDDEN = "This comment has been hidden"


class NewDiscussion(msgspec.Struct, rename="camel"):
    title: str
    description: str | None = None
    pull_request: bool = False


class Comment(msgspec.Struct):
    comment: str | None = None


class Content(msgspec.Struct):
    content: str


class Title(msgspec.Struct):
    title: str


class NewStatus(msgspec.Struct):
    status: str
    comment: str | None = None


class Update(msgspec.Struct):
    keep: dict[str, Literal["ours", "theirs"]] = {}


# -- as JSON ---------------------------------------------------------------------------------------------------------
def row(model: Model, found: Discussion) -> dict[str, Any]:
    return {
        "num": found.num,
        "title": found.title,
        "author": {"name": found.author},
        "createdAt": moment(found.created),
        "status": found.status.value,
        "repo": {"name": model.id, "type": model.repo_type.value},
        "isPullRequest": found.is_pull_request,
    }


def event_item(event: Event) -> dict[str, Any]:
    """An event; a comment's `html` is its text escaped and nothing more, pages render it themselves."""
    data = event.data
    if event.type == "comment":
        raw = HIDDEN if data["hidden"] else data["raw"]
        last = data["edits"][-1] if data["edits"] else {"at": moment(event.created), "by": event.author}
        edits = [{"updatedAt": _utc(edit["at"]), "author": {"name": edit["by"]}} for edit in data["edits"]]
        data = {
            "edited": bool(data["edits"]) and not data["hidden"],
            "hidden": data["hidden"],
            "latest": {
                "raw": raw,
                "html": f"<p>{escape(raw)}</p>",
                "updatedAt": _utc(last["at"]),
                "author": {"name": last["by"]},
            },
            "numEdits": len(edits),
            "history": edits,
        }
    return {
        "id": event.id,
        "type": event.type,
        "author": {"name": event.author},
        "createdAt": moment(event.created),
        "data": data,
    }


def _utc(text: str) -> str:
    """A moment as it is kept in an event, as clients read it."""
    return text.replace("+00:00", "Z")


def _whole(call: Call, model: Model, found: Discussion, *, diff: bool) -> dict[str, Any]:
    told = row(model, found) | {"events": [event_item(event) for event in call.catalog.happenings(found)]}
    if not found.is_pull_request:
        return told
    changes = {"base": found.base}
    if found.merge_commit is not None:
        changes["mergeCommitId"] = found.merge_commit
    told |= {"changes": changes, "filesWithConflicts": [], "diff": ""}
    try:
        sides = call.catalog.comparison(model, found)
    except RevisionNotFound:
        return told
    told["filesWithConflicts"] = list(sides.conflicts)
    if diff:

        def read(file: Any) -> bytes:
            return b"".join(call.services.storage.read(file.content))

        may_read = call.catalog.passes_gate(model, call.actor)
        told["diff"] = unified(compare(sides.before, sides.after, read if may_read else None), hashes=may_read)
    return told


# -- handlers --------------------------------------------------------------------------------------------------------
def listed(call: Call) -> Any:
    """GET /api/{kind}/{id}/discussions"""
    model = call.model()
    page = call.number("p", 0, 100_000)
    found, count = call.catalog.discussions(
        model,
        kind=call.query.get("type") or "all",
        status=call.query.get("status") or "all",
        author=call.query.get("author"),
        start=page * PAGE,
        limit=PAGE,
    )
    return {"discussions": [row(model, one) for one in found], "count": count, "start": page * PAGE}


def create(call: Call) -> Any:
    """POST /api/{kind}/{id}/discussions"""
    need_user(call.actor)
    asked, model = call.json(NewDiscussion), call.model()
    made = call.services.reviews.open(
        model, asked.title, asked.description or "", actor=call.actor, pull_request=asked.pull_request
    )
    return row(model, made) | {"url": f"{call.url(model)}/discussions/{made.num}", "pullRequest": made.is_pull_request}


def details(call: Call) -> Any:
    """GET /api/{kind}/{id}/discussions/{num}?diff=1"""
    model = call.model()
    return _whole(call, model, call.catalog.discussion(model, number(call)), diff=call.flag("diff"))


def comment(call: Call) -> Any:
    """POST /api/{kind}/{id}/discussions/{num}/comment"""
    need_user(call.actor)
    asked = call.json(Comment)
    event = call.services.reviews.comment(call.model(), number(call), asked.comment or "", actor=call.actor)
    return {"newMessage": event_item(event)}


def edit(call: Call) -> Any:
    """POST /api/{kind}/{id}/discussions/{num}/comment/{comment}/edit"""
    need_user(call.actor)
    asked = call.json(Content)
    event = call.services.reviews.edit(
        call.model(), number(call), call.path["comment"], asked.content, actor=call.actor
    )
    return {"updatedComment": event_item(event)}


def hide(call: Call) -> Any:
    """POST /api/{kind}/{id}/discussions/{num}/comment/{comment}/hide"""
    need_user(call.actor)
    event = call.services.reviews.hide(call.model(), number(call), call.path["comment"], actor=call.actor)
    return {"updatedComment": event_item(event)}


def rename(call: Call) -> Any:
    """POST /api/{kind}/{id}/discussions/{num}/title"""
    need_user(call.actor)
    event = call.services.reviews.rename(call.model(), number(call), call.json(Title).title, actor=call.actor)
    return {"newTitle": event_item(event)}


def status(call: Call) -> Any:
    """POST /api/{kind}/{id}/discussions/{num}/status"""
    need_user(call.actor)
    asked = call.json(NewStatus)
    event = call.services.reviews.set_status(
        call.model(), number(call), asked.status, actor=call.actor, comment=asked.comment or ""
    )
    return {"newStatus": event_item(event)}


def merge(call: Call) -> Any:
    """POST /api/{kind}/{id}/discussions/{num}/merge"""
    need_user(call.actor)
    asked, model = call.json(Comment), call.model()
    published = call.services.reviews.merge(model, number(call), actor=call.actor, comment=asked.comment or "")
    call.services.changed()
    commit = f"{call.url(model)}/commit/{published.revision_id}"
    return {"mergeCommitId": published.revision_id, "commitUrl": commit, "warnings": published.warnings}


def update(call: Call) -> Any:
    """POST /api/{kind}/{id}/discussions/{num}/update"""
    need_user(call.actor)
    asked, model = call.json(Update), call.model()
    published = call.services.reviews.update(model, number(call), actor=call.actor, keep=asked.keep)
    return {"commitOid": published.revision_id, "warnings": published.warnings}


def number(call: Call) -> int:
    text = call.path["num"]
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise Invalid(f"{text[:20]!r} is not the number of a discussion.", param="num")
    return int(text)


def routes() -> list[BaseRoute]:
    one = "/discussions/{num}"
    return [
        *api_routes(f"{one}/comment/{{comment}}/edit", {"POST": edit}),
        *api_routes(f"{one}/comment/{{comment}}/hide", {"POST": hide}),
        *api_routes(f"{one}/comment", {"POST": comment}),
        *api_routes(f"{one}/title", {"POST": rename}),
        *api_routes(f"{one}/status", {"POST": status}),
        *api_routes(f"{one}/merge", {"POST": merge}),
        *api_routes(f"{one}/update", {"POST": update}),
        *api_routes(one, {"GET": details}),
        *api_routes("/discussions", {"GET": listed, "POST": create}),
    ]
