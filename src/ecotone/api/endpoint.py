"""How an endpoint is written: one decorated function with a typed body; routes and OpenAPI come from the same record.

Handlers are synchronous rules-callers: they run in a worker thread, get the services and the caller, and return
something msgspec can encode. They know no HTTP; `errors.py` maps what they raise.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any, get_type_hints
from urllib.parse import unquote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, compile_path

from ecotone.accounts import Actor
from ecotone.api.errors import error_response
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated

PREFIX = "/api/ecotone/v1"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
MOST_BODY_BYTES = 64 * 1024


class Need(Enum):
    """What a caller must be: anybody who may read, a user with a token, one who may write, an administrator."""

    READ = "read"
    USER = "user"
    WRITE = "write"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Call:
    """What a handler gets: the composed services, the caller, path and query parameters, the decoded body."""

    services: Any
    actor: Actor
    path: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    raw: bytes = b""


@dataclass(frozen=True, slots=True)
class Endpoint:
    method: str
    path: str
    handler: Callable[[Call], Any]
    summary: str
    need: Need
    body: type | None
    status: int
    most: int
    shapes: Mapping[str, dict[str, Any]]
    media: str

    @property
    def acts(self) -> bool:
        """Whether a call changes something that the ledger has to know."""
        return self.method != "GET" and self.need in (Need.WRITE, Need.ADMIN)


ENDPOINTS: list[Endpoint] = []


def endpoint(
    method: str,
    path: str,
    *,
    need: Need,
    summary: str,
    body: type | None = None,
    status: int = 200,
    most: int = MOST_BODY_BYTES,
    shapes: Mapping[str, dict[str, Any]] | None = None,
    media: str = "application/json",
) -> Callable[[Callable[[Call], Any]], Callable[[Call], Any]]:
    """Register a handler under `PREFIX + path`.

    Args:
        method: HTTP method.
        path: with parameters as in Starlette, e.g. `/models/{namespace}/{name}`.
        need: who may call it.
        summary: one sentence for the OpenAPI document.
        body: a msgspec type that the JSON body must match.
        status: of a success.
        most: bytes of a body; more only where a user sends data.
        shapes: schemas of path parameters, and of the body as `body`, beside what its type tells; see `shapes.py`.
        media: type of a success's body.
    """

    def register(handler: Callable[[Call], Any]) -> Callable[[Call], Any]:
        ENDPOINTS.append(Endpoint(method, path, handler, summary, need, body, status, most, shapes or {}, media))
        return handler

    return register


def check(actor: Actor, need: Need) -> None:
    """Raises Unauthenticated or Forbidden when the caller is less than needed."""
    if actor.kind == "key":
        raise Unauthenticated(
            "This is a project's key (eck_...), which the gateway under /v1 takes; here a user's token (ect_...) is "
            "expected.",
            code="wrong_kind_of_secret",
        )
    if need is Need.READ:
        return
    if actor.kind != "user":
        raise Unauthenticated("A token is needed: send `Authorization: Bearer TOKEN`, or set ECOTONE_TOKEN.")
    if need is Need.ADMIN and not actor.is_admin:
        raise Forbidden("Only administrators may do this; ask one, or use an administrator's token.")
    if need is Need.WRITE and not actor.may_write:
        raise Forbidden("This token may only read; a token that may write is needed.")


def routes() -> list[BaseRoute]:
    """One Starlette route for each registered endpoint, plain paths before those with parameters."""
    ordered = sorted(ENDPOINTS, key=lambda e: (e.path.count("{"), e.path))
    found = [Route(PREFIX + e.path, _handle(e), methods=[e.method], name=e.handler.__name__) for e in ordered]
    return [*found, Route(PREFIX + "/{path:path}", _nothing, methods=_METHODS)]


def _taken_by(path: str) -> list[str]:
    """The methods of the endpoints at a path."""
    return sorted({method for pattern, method in _addresses() if pattern.match(path)})


@cache
def _addresses() -> list[tuple[re.Pattern[str], str]]:
    """Patterns of all addresses, with a method of each."""
    return [(compile_path(PREFIX + e.path)[0], e.method) for e in ENDPOINTS]


async def _nothing(request: Request) -> Response:
    path = request.path_params["path"]
    if taken := _taken_by(request.url.path):
        text = f"/{path} takes {', '.join(taken)}; {PREFIX}/openapi.json lists what each needs."
        body = {"error": {"message": text, "code": "method_not_allowed", "param": None}}
        headers = {"allow": ", ".join(taken)}
        return Response(msgspec.json.encode(body), status_code=405, media_type="application/json", headers=headers)
    return error_response(
        NotFound(f"There is no endpoint {request.method} /{path} here; {PREFIX}/openapi.json lists them.", param="path")
    )


def _handle(spec: Endpoint) -> Callable[[Request], Any]:
    async def handle(request: Request) -> Response:
        try:
            check(request.state.actor, spec.need)
            raw = await _read(request, spec.most) if spec.method in ("POST", "PUT", "PATCH") else b""
            call = Call(
                services=request.app.state.services,
                actor=request.state.actor,
                path={name: unquote(value) for name, value in request.path_params.items()},
                query=dict(request.query_params),
                body=decode(raw, spec.body) if spec.body is not None else None,
                raw=raw,
            )
            result = await run_in_threadpool(_answered, spec, call)
        except EcotoneError as error:
            return error_response(error)
        if isinstance(result, Response):
            return result
        return Response(msgspec.json.encode(result), status_code=spec.status, media_type="application/json")

    return handle


def _answered(spec: Endpoint, call: Call) -> Any:
    """What the handler returns. An act is in the ledger before it is done: what cannot be recorded does not happen."""
    if spec.acts:
        call.services.intend(spec.handler.__name__, call.actor, **{f"path_{k}": v for k, v in call.path.items()})
    return spec.handler(call)


async def _read(request: Request, most: int) -> bytes:
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLarge(f"The body is larger than {most} bytes, the most that is taken here.")
        parts.append(part)
    return b"".join(parts)


def decode(raw: bytes, kind: type) -> Any:
    """The body as `kind`.

    Raises:
        Invalid: naming the field that is wrong and what was expected.
    """
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        where = re.search(r"`\$\.?([^`]*)`", str(error))
        field_name = where.group(1) if where else None
        choices = _choices(kind, field_name)
        expected = f"; {field_name} is one of {', '.join(choices)}" if choices else ""
        raise Invalid(f"The body does not fit: {error}{expected}.", param=field_name) from None
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise Invalid("The body is not JSON; send a JSON object with `Content-Type: application/json`.") from None


def _choices(kind: type, field_name: str | None) -> list[str]:
    """The words that a field of an enumeration takes; empty for any other field."""
    if field_name is None or field_name not in getattr(kind, "__struct_fields__", ()):
        return []
    wanted = get_type_hints(kind)[field_name]
    return [str(member) for member in wanted] if isinstance(wanted, type) and issubclass(wanted, Enum) else []
