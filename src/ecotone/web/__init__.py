"""Pages for people: the catalogue, models, files, decisions and operations as HTML that works without script."""

from starlette.routing import BaseRoute, Route

from ecotone.vocabulary import RepoType
from ecotone.web import (
    access,
    catalogue,
    collections,
    device,
    files,
    history,
    licences,
    model_page,
    operations,
    profile,
    sessions,
    static,
    webhooks,
)
from ecotone.web.endpoint import page
from ecotone.web.failures import exception_handlers
from ecotone.web.sessions import actor_from_cookie

__all__ = ["actor_from_cookie", "exception_handlers", "routes"]


def routes() -> list[BaseRoute]:
    """All pages, on raw undecoded paths; to be mounted after the faces for programs."""
    found: list[BaseRoute] = [
        Route("/", page(catalogue.front), name="front"),
        Route("/models", page(catalogue.to_front)),
        Route("/datasets", page(catalogue.datasets)),
        Route("/login", sessions.login, methods=["GET", "POST"]),
        Route("/login/device", device.device, methods=["GET", "POST"]),
        Route("/logout", sessions.logout, methods=["POST"]),
        Route("/static/{digest}/{name}", static.file),
        Route("/favicon.ico", static.icon),
        Route("/ecotone/licences", page(licences.listed)),
        Route("/ecotone/licences/{id}", page(licences.show)),
        Route("/collections", page(collections.listed)),
        Route("/collections/{namespace}/{slug}", page(collections.show)),
        Route("/ecotone/webhooks", page(webhooks.listed)),
        Route("/ecotone/webhooks/{id}", page(webhooks.show), methods=["GET"]),
        Route("/ecotone/webhooks/{id}", webhooks.act, methods=["POST"]),
        *_access(),
        Route("/ecotone/profile", profile.profile, methods=["GET", "POST"]),
        Route("/ecotone/status", page(operations.status)),
        Route("/ecotone/why", page(operations.ask_why)),
        Route("/ecotone/why/{id}", page(operations.why)),
    ]
    for start in ("/datasets/{namespace}/{name}", "/{namespace}/{name}"):
        found += [
            Route(start, page(model_page.show)),
            Route(start + "/tree/{rev}", page(files.tree)),
            Route(start + "/tree/{rev}/{path:path}", page(files.tree)),
            Route(start + "/blob/{rev}/{path:path}", page(files.blob)),
            Route(start + "/commits/{rev}", page(history.commits)),
            Route(start + "/commit/{rev}", page(history.commit)),
        ]
    return [*found, Route("/{namespace}", page(catalogue.namespace))]


def _access() -> list[BaseRoute]:
    found: list[BaseRoute] = []
    for kind, prefix in access.PREFIXES.items():
        act = f"/ecotone/access/{kind.value}s/{{namespace}}/{{name}}"
        found.append(Route(act, access.answered(kind), methods=["POST"]))
        if kind is not RepoType.MODEL:  # before the pages of models, whose namespaces may be anything
            found.append(Route(f"/{prefix}{{namespace}}/{{name}}/access", page(access.shown(kind))))
    return [*found, Route("/{namespace}/{name}/access", page(access.shown(RepoType.MODEL)))]
