"""How a handler of the hub is written: a synchronous function that gets a `Call` and returns JSON or a response.

It runs in a worker thread. Paths arrive undecoded, so that `refs%2Fpr%2F1` is one segment; each parameter is decoded
here, once.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ecotone.accounts import Actor
from ecotone.catalog import BadName, Catalog, Model, ModelNotFound, RepoExists
from ecotone.catalog.discussion import PULL_REQUESTS
from ecotone.catalog.errors import NoWeightsHere
from ecotone.catalog.names import is_name
from ecotone.hub.errors import Moved, error_response
from ecotone.hub.room import counted, holding
from ecotone.publishing import in_turn
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid, RepoType, TooLarge, Unauthenticated

MAX_JSON_BYTES = 16 * 1024 * 1024
MAX_FIELDS_BYTES = 64 * 1024
KINDS = {"models": RepoType.MODEL, "datasets": RepoType.DATASET, "spaces": RepoType.SPACE}
PREFIXES = {RepoType.MODEL: "", RepoType.DATASET: "datasets/", RepoType.SPACE: "spaces/"}
_TRUE = {"true", "1", "yes", "on"}

T = TypeVar("T")


class Call:
    """One request: the composed services, the caller, decoded path parameters, query and body."""

    def __init__(self, request: Request, repo_type: RepoType, body: bytes = b"") -> None:
        self.request = request
        self.repo_type = repo_type
        self.body = body
        self.services: Any = request.app.state.services
        self.actor: Actor = request.state.actor
        self.path = {name: unquote(value) for name, value in request.path_params.items()}
        self.query = request.query_params
        if any("\0" in text for text in (*self.path.values(), *(value for _, value in self.query.multi_items()))):
            raise Invalid("The address holds a NUL character; no name here does.")

    @property
    def catalog(self) -> Catalog:
        catalog: Catalog = self.services.catalog
        return catalog

    @property
    def base(self) -> str:
        """The public address of this hub, without a slash at the end."""
        base: str = self.services.settings.base_url
        return base

    @property
    def repo_id(self) -> str:
        return f"{self.path['namespace']}/{self.path['name']}"

    def model(self) -> Model:
        """The repository that the path names.

        Raises:
            ModelNotFound: when it is absent, not visible, or in the catalogue without files.
            Moved: when its name is another one by now, or was written in other letters.
        """
        repo_id = self.repo_id
        if not (is_name(self.path["namespace"]) and is_name(self.path["name"])):
            raise ModelNotFound(repo_id)
        found = self.catalog.model(repo_id, viewer=self.actor, repo_type=self.repo_type)
        if found.head is None:
            raise NoWeightsHere(repo_id)
        if found.id != repo_id:
            raise Moved(self._address_of(found))
        return found

    def _address_of(self, model: Model) -> str:
        """The path of this request at the repository's present name, below the public address."""
        raw = self.request.path_params
        suffix = ".git" if str(raw["name"]).endswith(".git") else ""
        old, new = f"/{raw['namespace']}/{raw['name']}", f"/{model.id}{suffix}"
        path = urlsplit(self.base).path + str(self.request.scope["path"]).replace(old, new, 1)
        return f"{path}?{self.request.url.query}" if self.request.url.query else path

    def check_gate(self, model: Model) -> None:
        """Raises GatedRepo when the caller may not have a repository's bytes."""
        self.catalog.check_gate(model, self.actor)

    def url(self, model: Model) -> str:
        return f"{self.base}/{PREFIXES[model.repo_type]}{model.id}"

    def flag(self, name: str) -> bool:
        """A boolean of the query, in any client's spelling."""
        return self.query.get(name, "").lower() in _TRUE

    def number(self, name: str, default: int, most: int) -> int:
        raw = self.query.get(name)
        if raw is None or raw == "":
            return default
        try:
            value = int(raw)
        except ValueError:
            raise Invalid(f"{name} is {raw!r}; a number is expected.", param=name) from None
        return max(0, min(value, most))

    def json(self, kind: type[T]) -> T:
        """The body as `kind`.

        Raises:
            Invalid: naming what does not fit.
        """
        try:
            return msgspec.json.decode(self.body or b"{}", type=kind)
        except msgspec.ValidationError as error:
            raise Invalid(f"The body does not fit: {error}.") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise Invalid("The body is not JSON; send a JSON object.") from None

    def fields(self, kind: type[T]) -> T:
        """The same for a body of a few short fields. Raises TooLarge too."""
        if len(self.body) > MAX_FIELDS_BYTES:
            raise TooLarge(f"The body is larger than {MAX_FIELDS_BYTES} bytes, the most that is taken here.")
        return self.json(kind)


Handler = Callable[[Call], Any]


def need_user(actor: Actor) -> None:
    """Raises Unauthenticated for anybody without a user's token."""
    if actor.kind != "user":
        raise Unauthenticated("This needs a token: log in with `hf auth login`, or set HF_TOKEN.")


def need_writer(actor: Actor) -> None:
    """Raises Unauthenticated or Forbidden for a caller that may not write, before anything is looked up."""
    need_user(actor)
    if not actor.may_write:
        raise Forbidden("This token may only read; a token that may write is needed.")


def need_sender(call: "Call", rev: str | None, *, proposing: bool) -> Model:
    """The repository of the path, for a caller who may send files for a revision of it: a writer, or for a pull request
    (or to open one) any user, its author.

    Raises:
        Unauthenticated, Forbidden: for a caller who may never, before anything is looked up.
        WrongStatus: when the pull request is closed or merged.
    """
    if proposing or (rev or "").startswith(PULL_REQUESTS):
        need_user(call.actor)
    elif call.actor.kind == "user" and not call.actor.may_write:
        raise Forbidden(
            "This token may only read; use one that may write, or propose the files as a pull request "
            "(`hf upload ... --create-pr`)."
        )
    else:
        need_writer(call.actor)
    model = call.model()
    call.catalog.check_contributor(model, call.actor, None if proposing else rev)
    return model


async def read_body(request: Request, most: int = MAX_JSON_BYTES) -> bytes:
    """The whole body.

    Raises:
        TooLarge: when it passes the bound.
        Unavailable: when the bodies under way hold all the memory that they may.
    """
    parts = []
    with holding(request) as held:
        async for part in counted(request.stream(), held):
            if held.size > most:
                raise TooLarge(f"The body is larger than {most} bytes, the most that is taken here.")
            parts.append(part)
        return b"".join(parts)


def form_fields(body: bytes) -> dict[str, list[str]]:
    """The fields of an urlencoded form; repeated ones are lists."""
    fields: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=5000)
    except (ValueError, UnicodeDecodeError):
        raise Invalid("The body is not a form; send paths=a&paths=b, or JSON.") from None
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers=headers, media_type="application/json")


def handle(handler: Handler, repo_type: RepoType = RepoType.MODEL) -> Callable[[Request], Awaitable[Response]]:
    """An ASGI endpoint around a synchronous handler."""

    async def endpoint(request: Request) -> Response:
        actor: Actor = request.state.actor
        try:
            refuse_keys(actor)
            if request.method in ("GET", "HEAD"):
                result = await run_in_threadpool(handler, Call(request, repo_type))
            else:
                result = await in_turn(actor, handler, Call(request, repo_type, await read_body(request)))
        except EcotoneError as error:
            return failed(request, error, actor)
        return result if isinstance(result, Response) else answer(result)

    return endpoint


def refuse_keys(actor: Actor) -> None:
    """The hub takes users' tokens; a project's key is refused and named."""
    if actor.kind == "key":
        raise Unauthenticated(
            "This is a project's key (eck_...), which the gateway under /v1 takes; the hub takes a user's token "
            "(ect_...).",
            code="wrong_kind_of_secret",
        )


def failed(request: Request, error: EcotoneError, actor: Actor) -> Response:
    """The answer to a known failure, with the repository's address where a client reads it."""
    request.state.refused = error.code
    url = None
    if isinstance(error, Moved):
        return answer({"error": error.message}, 307, {"location": error.location})
    if isinstance(error, RepoExists):
        base = request.app.state.services.settings.base_url
        url = f"{base}/{PREFIXES[error.model.repo_type]}{error.model.id}"
    return error_response(error, actor, url=url)


def api_routes(path: str, handlers: dict[str, Handler], *, kinds: Sequence[str] = tuple(KINDS)) -> list[BaseRoute]:
    """Routes for `path` below `/api/{kind}/{namespace}/{name}` of each kind of repository, by method."""
    return [
        Route(f"/api/{kind}/{{namespace}}/{{name}}{path}", handle(handler, KINDS[kind]), methods=[method])
        for kind in kinds
        for method, handler in handlers.items()
    ]


def plain_route(path: str, handler: Handler, method: str = "GET", repo_type: RepoType = RepoType.MODEL) -> BaseRoute:
    return Route(path, handle(handler, repo_type), methods=[method])


def private_of(visibility: str | None, private: bool | None, repo_type: RepoType) -> bool | None:
    """Whether a body asks for a private repository, in the words of any client; None when it does not say."""
    if visibility is None:
        return private
    known = ("public", "private", "protected") if repo_type is RepoType.SPACE else ("public", "private")
    if visibility not in known:
        raise Invalid(f"visibility is {visibility!r}; this hub knows public and private.", param="visibility")
    return visibility != "public"  # a protected space hides its files, and files are all that is kept here


def type_named(word: str | None) -> RepoType:
    """The type of repository that a body names; a model when it names none."""
    try:
        return RepoType((word or "model").lower().removesuffix("s"))
    except ValueError:
        raise BadName(f"type is {word!r}; expected model, dataset or space.", param="type") from None
