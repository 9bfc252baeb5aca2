"""How a page is written: a synchronous function that gets a `Visit` and returns a response, in a worker thread."""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from ecotone.accounts import Actor
from ecotone.catalog import Catalog, EntryNotFound, Model, ModelNotFound
from ecotone.catalog.names import is_name
from ecotone.vocabulary import EcotoneError, Forbidden, RepoType
from ecotone.web.answers import SECURITY_HEADERS, html, root_of
from ecotone.web.failures import failure_page

STARTS = {RepoType.DATASET: "/datasets/", RepoType.SPACE: "/spaces/", RepoType.MODEL: "/"}
"""What stands before the id in the address of each kind of repository; the longest first."""


class Visit:
    """One request for a page: the composed services, the caller, decoded path parameters and the query."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.services: Any = request.app.state.services
        self.actor: Actor = request.state.actor
        self.path = {name: unquote(value) for name, value in request.path_params.items()}
        self.query = request.query_params
        self.repo_type = next(kind for kind, start in STARTS.items() if request.scope["path"].startswith(start))

    @property
    def catalog(self) -> Catalog:
        catalog: Catalog = self.services.catalog
        return catalog

    @property
    def root(self) -> str:
        """What stands before every path of ours, when a proxy serves us below a path."""
        return root_of(self.services)

    def model(self) -> Model:
        """The repository or catalogue entry that the path names.

        Raises:
            ModelNotFound: when it is absent or not visible.
        """
        namespace, name = self.path["namespace"], self.path["name"]
        if not (is_name(namespace) and is_name(name)):
            raise ModelNotFound(f"{namespace}/{name}")
        return self.catalog.model(f"{namespace}/{name}", viewer=self.actor, repo_type=self.repo_type)

    def stored_model(self) -> Model:
        """The repository that the path names, when it has files.

        Raises:
            ModelNotFound, EntryNotFound: the latter for an entry of the catalogue without files.
        """
        model = self.model()
        if model.head is None:
            raise EntryNotFound(model.id, self.path.get("path", ""), "")
        return model

    def page(self, template: str, **context: Any) -> Response:
        """A rendered template with what every page shows."""
        return html(self.request, template, **context)

    def redirect(self, path: str) -> Response:
        return RedirectResponse(self.root + path, 303, headers=dict(SECURITY_HEADERS))


Handler = Callable[[Visit], Response]


def page(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """An ASGI endpoint around a page's function; known failures become a readable page."""

    async def endpoint(request: Request) -> Response:
        try:
            refuse_keys(request.state.actor)
            return await run_in_threadpool(handler, Visit(request))
        except EcotoneError as error:
            return await run_in_threadpool(failure_page, request, error)

    return endpoint


def refuse_keys(actor: Actor) -> None:
    """Pages are for users; a project's key is refused and named."""
    if actor.kind == "key":
        raise Forbidden("This is a project's key (eck_...), which the gateway under /v1 takes; pages take a user's.")


def address(model: Model) -> str:
    """The path of a model's page."""
    return f"{STARTS[model.repo_type]}{model.id}"
