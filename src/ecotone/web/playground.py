"""The playground: one question, two models side by side, open or proprietary, each through the gateway.

Without a script the page answers when both have; with it the answers grow side by side.
"""

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from ecotone.accounts import Actor, bears
from ecotone.vocabulary import DeploymentState, EcotoneError, Forbidden, Invalid, ModelKind
from ecotone.web.answers import SECURITY_HEADERS
from ecotone.web.endpoint import Visit, refuse_keys
from ecotone.web.failures import failure_page
from ecotone.web.managing import Fields, decimal_of, number_of
from ecotone.web.playing import PlayKeys, Question, Told, answered
from ecotone.web.sessions import posted

PATH = "/ecotone/playground"
ANSWER = PATH + "/answer"
SIDES = ("a", "b")
_MOST_TOKENS = 8192
_MOST_FORM = 256 * 1024
_MOST_NAMES = 500
_FIRST = threading.Lock()


async def playground(request: Request) -> Response:
    """GET and POST /ecotone/playground?project=&a=MODEL&b=MODEL"""
    fields: Fields = {}
    try:
        refuse_keys(request.state.actor)
        if request.method == "GET":
            return await run_in_threadpool(_show, Visit(request), dict(request.query_params))
        request.state.actor, fields = await posted(request, most_bytes=_MOST_FORM)
        visit = Visit(request)
        try:
            question, models = _asked(fields)
            key = await run_in_threadpool(_key, visit, question.project)
        except Invalid as error:
            return await run_in_threadpool(_show, visit, fields, problem=error.message)
        told = await asyncio.gather(*(_whole(visit.services, key, question, model) for model in models))
        return await run_in_threadpool(_show, visit, fields, answers=dict(zip(SIDES, told, strict=False)))
    except EcotoneError as error:
        return await run_in_threadpool(failure_page, request, error)


async def answer(request: Request) -> Response:
    """POST /ecotone/playground/answer, the form and a `side`: lines of JSON, `text` as it grows, `told` at the end."""
    try:
        refuse_keys(request.state.actor)
        request.state.actor, fields = await posted(request, most_bytes=_MOST_FORM)
        visit = Visit(request)
        if fields.get("side") not in SIDES or not fields.get(fields["side"], "").strip():
            raise Invalid("Choose a model for this side.", param="side")
        question, _ = _asked(fields)
        key = await run_in_threadpool(_key, visit, question.project)
    except EcotoneError as error:
        line = msgspec.json.encode({"told": {"model": "", "problem": error.message}})
        return Response(line + b"\n", 200, headers=dict(SECURITY_HEADERS), media_type="application/x-ndjson")
    model = fields[fields["side"]].strip()
    return StreamingResponse(
        _lines(visit.services, key, question, model),
        headers=SECURITY_HEADERS | {"x-accel-buffering": "no"},
        media_type="application/x-ndjson",
    )


async def _lines(services: Any, key: str, question: Question, model: str) -> AsyncIterator[bytes]:
    async for piece in answered(services, key, question, model):
        found = {"told": piece} if isinstance(piece, Told) else {"text": piece}
        yield msgspec.json.encode(found) + b"\n"


async def _whole(services: Any, key: str, question: Question, model: str) -> Told:
    async for piece in answered(services, key, question, model):
        if isinstance(piece, Told):
            return piece
    raise AssertionError("an answer ends with what is told of it")


def _key(visit: Visit, project: str) -> str:
    state = visit.request.app.state
    with _FIRST:
        if not hasattr(state, "play_keys"):
            state.play_keys = PlayKeys()
    found: str = state.play_keys.key(visit.services, project, visit.actor)
    return found


def _asked(fields: Fields) -> tuple[Question, list[str]]:
    """Raises Invalid, naming the field."""
    models = [fields.get(side, "").strip()[:300] for side in SIDES]
    if not any(models):
        raise Invalid("Choose at least one model.", param="a")
    if not fields.get("prompt", "").strip():
        raise Invalid("Write something to ask.", param="prompt")
    tokens = number_of(fields, "tokens", "Tokens at most") or 256
    temperature = decimal_of(fields, "temperature", "Temperature", 0.0)
    if not 1 <= tokens <= _MOST_TOKENS:
        raise Invalid(f"Tokens at most is {tokens}; 1 to {_MOST_TOKENS} are asked for here.", param="tokens")
    if temperature > 2:
        raise Invalid(f"Temperature is {temperature:g}; 0 to 2 is expected.", param="temperature")
    question = Question(
        project=fields.get("project", "").strip(),
        prompt=fields["prompt"],
        system=fields.get("system", "").strip(),
        tokens=tokens,
        temperature=temperature,
    )
    return question, [model for model in models if model]


def _show(visit: Visit, told: Fields, *, problem: str = "", answers: dict[str, Told] | None = None) -> Response:
    projects = _projects(visit)
    found = visit.page(
        "playground.html",
        projects=projects,
        names=_names(visit),
        told=told,
        sides=SIDES,
        answers=answers or {},
        problem=problem,
    )
    found.status_code = 400 if problem else 200
    return found


def _projects(visit: Visit) -> list[str]:
    """Projects for which the visitor may ask. Raises Forbidden for a stranger."""
    actor: Actor = visit.actor
    if actor.kind != "user":
        raise Forbidden("The playground asks in the name of a project; log in as somebody who owns one.")
    projects = visit.services.accounts.projects()
    return [
        p.name for p in projects if actor.is_admin or any(bears(actor, n) for n in (p.created_by, *p.bounds.owners))
    ]


def _names(visit: Visit) -> list[str]:
    """What can be asked: routes, models that are served here, models that a backend's provider is known to have."""
    services = visit.services
    usable = (DeploymentState.READY, DeploymentState.STARTING, DeploymentState.IDLE)
    found = [route.name for route in services.routes.list()]
    found += [d.model for d in services.engines.deployments() if d.state in usable]
    backends = {backend.name.lower() for backend in services.backends.list()}
    listed = services.catalog.models(viewer=visit.actor, kind=ModelKind.API).models if backends else ()
    found += [f"{m.namespace.lower()}/{m.name}" for m in listed if m.namespace.lower() in backends]
    return list(dict.fromkeys(found))[:_MOST_NAMES]
