"""Access to a gated repository: where users ask for it, and where its owners answer."""

from collections.abc import Awaitable, Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ecotone.accounts import Actor
from ecotone.catalog import STATUSES, AccessRequest, Model
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid, RepoType
from ecotone.web.answers import SECURITY_HEADERS
from ecotone.web.endpoint import Visit
from ecotone.web.failures import failure_page
from ecotone.web.repository import head, may_settle
from ecotone.web.sessions import posted

PREFIXES = {RepoType.MODEL: "", RepoType.DATASET: "datasets/", RepoType.SPACE: "spaces/"}
MOST_SHOWN = 200
_ACTS = {"accept": "accepted", "reject": "rejected", "put back": "pending"}


def shown(repo_type: RepoType) -> Callable[[Visit], Response]:
    """GET /{prefix}{namespace}/{name}/access"""

    def handler(visit: Visit) -> Response:
        visit.repo_type = repo_type
        return _page(visit, visit.stored_model())

    return handler


def _page(visit: Visit, model: Model, problem: str = "", status: int = 200, typed: str = "") -> Response:
    actor = visit.actor
    lists: list[tuple[str, list[AccessRequest]]] = []
    may_answer = model.gated is not None and may_settle(visit, model)
    if may_answer:
        lists = [(word, visit.catalog.access_requests(model, word, actor=actor, limit=MOST_SHOWN)) for word in STATUSES]
    own = visit.catalog.access_request_of(model, actor) if actor.kind == "user" else None
    answer = visit.page(
        "access.html",
        **head(visit, model, "access"),
        action=f"{visit.root}/ecotone/access/{model.repo_type.value}s/{model.id}",
        may_answer=may_answer,
        typed=typed,
        is_in=visit.catalog.passes_gate(model, actor),
        own=own,
        lists=lists,
        problem=problem,
    )
    answer.status_code = status
    return answer


def answered(repo_type: RepoType) -> Callable[[Request], Awaitable[Response]]:
    """POST /ecotone/access/{kind}/{namespace}/{name}: `act` is ask, grant, accept, reject or put back."""

    async def endpoint(request: Request) -> Response:
        try:
            actor, fields = await posted(request)
            return await run_in_threadpool(_act, request, repo_type, actor, fields)
        except EcotoneError as error:
            return await run_in_threadpool(failure_page, request, error)

    return endpoint


def _act(request: Request, repo_type: RepoType, actor: Actor, fields: dict[str, str]) -> Response:
    request.state.actor = actor
    visit = Visit(request)
    visit.repo_type = repo_type
    model = visit.stored_model()
    act, services = fields.get("act", ""), visit.services
    if act != "ask":
        visit.catalog.check_gatekeeper(model, actor)
    services.intend(f"access.{act[:20]}", actor, model=model.id)
    try:
        done = _done(visit, model, act, fields)
    except (Invalid, Forbidden) as error:
        return _page(visit, model, error.message, 400, fields.get("user", ""))
    services.note(f"access.{act}", actor, model=model.id, user=done.user, status=done.status)
    here = f"{visit.root}/{PREFIXES[model.repo_type]}{model.id}/access"
    return RedirectResponse(here, 303, headers=dict(SECURITY_HEADERS))


def _done(visit: Visit, model: Model, act: str, fields: dict[str, str]) -> AccessRequest:
    catalog, actor = visit.catalog, visit.actor
    if act == "ask":
        return catalog.ask_access(model, actor)
    if act == "grant":
        return catalog.grant_access(model, fields.get("user", "").strip(), actor=actor)
    status = next((status for status in STATUSES if _ACTS.get(act) == status), None)
    if status is None:
        raise Invalid("That is nothing this form does.", param="act")
    reason = fields.get("reason", "") if status == "rejected" else ""
    return catalog.handle_access(model, actor=actor, status=status, request_id=fields.get("request", ""), reason=reason)
