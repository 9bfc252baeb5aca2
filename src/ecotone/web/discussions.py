"""Discussions and pull requests of a repository as pages: the list, one of them, and the forms that change them.

Forms are sent below `/ecotone/`, where each one says by its token who sent it. Rules are in `Catalog` and `Reviews`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ecotone.accounts import Actor
from ecotone.catalog import Model, ModelNotFound, Revision, RevisionNotFound
from ecotone.catalog.differences import compare
from ecotone.catalog.discussion import ALIVE, MOST_COMMENT, MOST_TITLE, Discussion, DiscussionNotFound, Event
from ecotone.catalog.merging import Side
from ecotone.publishing import in_turn
from ecotone.vocabulary import EcotoneError, Invalid, NotFound, RepoType, Unauthenticated
from ecotone.web.cards import comment_html
from ecotone.web.endpoint import Visit, address, page
from ecotone.web.failures import failure_page, status_of
from ecotone.web.history import MOST_LINE, Change, reading, shown_changes
from ecotone.web.repository import head
from ecotone.web.sessions import posted

PAGE = 30
FORMS = "/ecotone/discussions"
MOST_FORM_BYTES = 12 * MOST_COMMENT + 64 * 1024
MOST_CONFLICTS = 100
MOST_MARKDOWN = 65_536
_KINDS = {"model": RepoType.MODEL, "dataset": RepoType.DATASET, "space": RepoType.SPACE}
NOTHING: Mapping[str, str] = {}
_SIDES: dict[str, Side] = {"ours": "ours", "theirs": "theirs"}


@dataclass(frozen=True, slots=True)
class Shown:
    """An event as a page shows it. `text` is a comment's HTML; `may_change` whether the visitor may edit or hide it."""

    event: Event
    text: Markup | None
    may_change: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What a pull request changes."""

    base: Revision | None
    head: Revision | None
    branch: str
    files: list[Change]
    left_out: int
    conflicts: tuple[str, ...]
    behind: bool


# -- pages -----------------------------------------------------------------------------------------------------------
def listed(visit: Visit) -> Response:
    """GET /{id}/discussions?type=&status=&p="""
    model = visit.stored_model()
    kind, status = visit.query.get("type", "all"), visit.query.get("status", "open")
    raw = visit.query.get("p", "0")
    number = int(raw) if raw.isascii() and raw.isdigit() and len(raw) < 6 else 0
    found, count = visit.catalog.discussions(model, kind=kind, status=status, start=number * PAGE, limit=PAGE)

    def link(**changes: str) -> str:
        query = {"type": kind, "status": status} | changes
        return "?" + urlencode({name: value for name, value in query.items() if value != "all" or name == "status"})

    return visit.page(
        "discussions.html",
        **_head(visit, model),
        found=found,
        count=count,
        status=status,
        kind=kind,
        statuses=[(word, link(status=word)) for word in ("open", "closed", "all")],
        kinds=[
            (word, shown, link(type=word))
            for word, shown in (("all", "everything"), ("discussion", "discussions"), ("pull_request", "pull requests"))
        ],
        newer=link(p=str(number - 1)) if number else None,
        older=link(p=str(number + 1)) if (number + 1) * PAGE < count else None,
    )


def new(visit: Visit, sent: Mapping[str, str] = NOTHING, problem: str = "") -> Response:
    """GET /{id}/discussions/new; also what a form with a mistake comes back on"""
    model = visit.stored_model()
    if visit.actor.kind != "user":
        return visit.redirect(f"/login?{urlencode({'next': f'{address(model)}/discussions/new'})}")
    return visit.page("new_discussion.html", **_head(visit, model), sent=sent, problem=problem)


def show(visit: Visit, sent: Mapping[str, str] = NOTHING, problem: str = "") -> Response:
    """GET /{id}/discussions/{num}; also what a form with a mistake comes back on"""
    model = visit.stored_model()
    found = visit.catalog.discussion(model, _number(model, visit.path["num"]))
    is_user = visit.actor.kind == "user"
    writes = is_user and visit.catalog.writes(model, visit.actor)
    owns = writes or (is_user and found.author == visit.actor.name)
    attachments = (f"{visit.services.settings.base_url}/uploads/", f"{visit.root}/uploads/")
    here = visit.root + address(model)

    events = visit.catalog.happenings(found)
    formatted = _formatted(events)

    def shown(event: Event) -> Shown:
        if event.type != "comment" or event.data["hidden"]:
            return Shown(event, None, False)
        may_change = writes or (is_user and event.author == visit.actor.name)
        text = event.data["raw"]
        if event.id not in formatted:
            return Shown(event, Markup("<pre>{}</pre>").format(text), may_change)
        return Shown(event, comment_html(text, here, attachments), may_change)

    return visit.page(
        "discussion.html",
        **_head(visit, model),
        discussion=found,
        is_alive=found.status in ALIVE,
        events=[shown(event) for event in events],
        changes=_changes(visit, model, found) if found.is_pull_request else None,
        writes=writes,
        owns=owns,
        most_line=MOST_LINE,
        sent=sent,
        problem=problem,
        form_path=f"{visit.root}{FORMS}/{model.repo_type.value}/{model.id}/{found.num}",
    )


def _formatted(events: list[Event]) -> set[str]:
    """Ids of the comments that are shown as Markdown: the newest, as many as do not take long; others as plain text."""
    left, found = MOST_MARKDOWN, set()
    for event in reversed(events):
        if event.type == "comment" and len(event.data["raw"]) <= left:
            left -= len(event.data["raw"])
            found.add(event.id)
    return found


def _head(visit: Visit, model: Model) -> dict[str, Any]:
    """What each of these pages shows of the repository."""
    return head(visit, model, "discussions") | {
        "new_path": f"{visit.root}{FORMS}/{model.repo_type.value}/{model.id}",
        "most_title": MOST_TITLE,
        "most_comment": MOST_COMMENT,
    }


def _changes(visit: Visit, model: Model, found: Discussion) -> Changes:
    branch = (found.base or "").removeprefix("refs/heads/")
    try:
        sides = visit.catalog.comparison(model, found)
    except RevisionNotFound:
        return Changes(None, None, branch, [], 0, (), False)
    may_read = visit.catalog.passes_gate(model, visit.actor)
    files, left_out = shown_changes(compare(sides.before, sides.after, reading(visit) if may_read else None))
    behind = sides.ours is not None and (sides.base is None or sides.base.id != sides.ours.id)
    return Changes(sides.base, sides.theirs, branch, files, left_out, sides.conflicts[:MOST_CONFLICTS], behind)


# -- forms -----------------------------------------------------------------------------------------------------------
async def sent(request: Request) -> Response:
    """POST /ecotone/discussions/{type}/{namespace}/{name}[/{num}/{act}]"""
    try:
        actor, fields = await posted(request, most_bytes=MOST_FORM_BYTES)
        request.state.actor = actor
        return await in_turn(actor, _acted, Visit(request), actor, fields)
    except EcotoneError as error:
        return await run_in_threadpool(failure_page, request, error)


def _acted(visit: Visit, actor: Actor, fields: dict[str, str]) -> Response:
    """Do what a form asks, or show it again with what was wrong and the text that was sent."""
    try:
        return _done(visit, actor, fields)
    except (NotFound, Unauthenticated):
        raise
    except EcotoneError as error:
        answer = (show if "num" in visit.path else new)(
            visit, fields | {"act": visit.path.get("act", "")}, error.message
        )
        answer.status_code = status_of(error)
        return answer


def _done(visit: Visit, actor: Actor, fields: dict[str, str]) -> Response:
    kind = _KINDS.get(visit.path["type"])
    if kind is None:
        raise ModelNotFound(visit.path["type"])
    visit.repo_type = kind
    model = visit.stored_model()
    reviews = visit.services.reviews
    if "num" not in visit.path:
        made = reviews.open(
            model,
            fields.get("title", ""),
            fields.get("comment", ""),
            actor=actor,
            pull_request=fields.get("kind") == "pull_request",
        )
        return visit.redirect(f"{address(model)}/discussions/{made.num}")
    num = _number(model, visit.path["num"])
    end = _act(visit, model, num, visit.path["act"], actor, fields)
    return visit.redirect(f"{address(model)}/discussions/{num}{end}")


def _act(visit: Visit, model: Model, num: int, act: str, actor: Actor, fields: dict[str, str]) -> str:
    """Do what a form asks; where on the page to go on."""
    reviews, comment = visit.services.reviews, fields.get("comment", "")
    match act:
        case "comment":
            return f"#event-{reviews.comment(model, num, comment, actor=actor).id}"
        case "edit":
            return f"#event-{reviews.edit(model, num, fields.get('id', ''), comment, actor=actor).id}"
        case "hide":
            return f"#event-{reviews.hide(model, num, fields.get('id', ''), actor=actor).id}"
        case "title":
            reviews.rename(model, num, fields.get("title", ""), actor=actor)
        case "status":
            reviews.set_status(model, num, fields.get("status", ""), actor=actor, comment=comment)
        case "merge":
            reviews.merge(model, num, actor=actor, comment=comment)
            visit.services.changed()
        case "update":
            chosen = {n.removeprefix("keep."): _SIDES[v] for n, v in fields.items() if n[:5] == "keep." and v in _SIDES}
            reviews.update(model, num, actor=actor, keep=chosen)
        case _:
            raise Invalid(f"{act[:20]!r} is nothing that a discussion knows.", param="act")
    return ""


def _number(model: Model, text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise DiscussionNotFound(model.id, 0)
    return int(text)


def routes() -> list[BaseRoute]:
    """Pages of all kinds of repositories, and the addresses of their forms."""
    found: list[BaseRoute] = [
        Route(FORMS + "/{type}/{namespace}/{name}", sent, methods=["POST"]),
        Route(FORMS + "/{type}/{namespace}/{name}/{num}/{act}", sent, methods=["POST"]),
    ]
    for start in ("/datasets/{namespace}/{name}", "/spaces/{namespace}/{name}", "/{namespace}/{name}"):
        found += [
            Route(start + "/discussions", page(listed)),
            Route(start + "/discussions/new", page(new)),
            Route(start + "/discussions/{num}", page(show)),
        ]
    return found
