"""Pages for people: the catalogue, models, files, decisions and operations as HTML that works without script."""

import re

from starlette.routing import BaseRoute, Route

from ecotone.catalog import RESERVED_SEGMENTS
from ecotone.vocabulary import RepoType
from ecotone.web import (
    access,
    catalogue,
    collections,
    deployments,
    device,
    discussions,
    family_page,
    files,
    history,
    keys,
    licences,
    model_page,
    operations,
    playground,
    profile,
    projects,
    refs,
    repository_settings,
    requests,
    routing,
    sessions,
    static,
    traffic,
    webhooks,
    withdrawal_page,
    writing,
    you,
)
from ecotone.web.endpoint import page
from ecotone.web.failures import exception_handlers
from ecotone.web.managing import managed
from ecotone.web.sessions import actor_from_cookie

__all__ = ["actor_from_cookie", "exception_handlers", "routes", "takes_form"]

_KINDS = ("/datasets/", "/spaces/", "/")
_FORM = re.compile(
    rf"/(?:datasets/|spaces/|(?!(?:{'|'.join(sorted(RESERVED_SEGMENTS))})/))[^/]+/[^/]+/(?:upload|edit|delete|refs|settings)(?:/|\Z)",
    re.IGNORECASE,
)


def takes_form(path: str) -> bool:
    """Whether a path is that of a repository's form, which reads itself who sent it."""
    return _FORM.match(path) is not None


def routes() -> list[BaseRoute]:
    """All pages, on raw undecoded paths; to be mounted after the faces for programs."""
    found: list[BaseRoute] = [
        Route("/", page(catalogue.front), name="front"),
        Route("/models", page(catalogue.to_front)),
        Route("/datasets", page(catalogue.datasets)),
        Route("/spaces", page(catalogue.spaces)),
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
        Route("/ecotone/you", page(you.show)),
        Route("/ecotone/profile", profile.profile, methods=["GET", "POST"]),
        Route("/ecotone/status", page(operations.status)),
        *_managed(),
        Route("/ecotone/traffic", page(traffic.show)),
        Route("/ecotone/requests", page(requests.show)),
        *_deployments(),
        Route(playground.PATH, playground.playground, methods=["GET", "POST"]),
        Route(playground.ANSWER, playground.answer, methods=["POST"]),
        Route("/ecotone/why", page(operations.ask_why)),
        Route("/ecotone/why/{id}", page(operations.why)),
    ]
    found += discussions.routes()
    for kind in _KINDS:
        start = kind + "{namespace}/{name}"
        found += [
            Route(start, page(model_page.show)),
            *_family(kind, start),
            Route(start + "/tree/{rev}", page(files.tree)),
            Route(start + "/tree/{rev}/{path:path}", page(files.tree)),
            Route(start + "/blob/{rev}/{path:path}", page(files.blob)),
            Route(start + "/picture/{rev}/{path:path}", page(files.picture)),
            Route(start + "/commits/{rev}", page(history.commits)),
            Route(start + "/commit/{rev}", page(history.commit)),
            *_forms(start),
        ]
    return [*found, Route("/{namespace}", page(catalogue.namespace))]


def _family(kind: str, start: str) -> list[BaseRoute]:
    """The tree of a model or dataset; spaces have none."""
    if kind == "/spaces/":
        return []
    return [
        Route(start + "/family", page(family_page.show)),
        Route(start + "/family/impact", page(family_page.impact)),
    ]


def _deployments() -> list[BaseRoute]:
    """Seen by users, changed by administrators."""
    one = deployments.PATH + "/{namespace}/{name}"
    return [
        Route(deployments.PATH, page(deployments.listed), methods=["GET"]),
        Route(deployments.PATH, managed(deployments.listed, deployments.create), methods=["POST"]),
        Route(one, page(deployments.show), methods=["GET"]),
        Route(one, managed(deployments.show, deployments.act), methods=["POST"]),
    ]


def _managed() -> list[BaseRoute]:
    """Pages on which administrators manage the gateway; each address shows its page and takes its forms."""
    pairs = (
        (projects.PATH, managed(projects.listed, projects.create)),
        (projects.PATH + "/{name}", managed(projects.show, projects.act)),
        (keys.PATH + "/{id}", managed(keys.show, keys.act)),
        (routing.PATH, managed(routing.listed, routing.create)),
        (withdrawal_page.PATH, managed(withdrawal_page.listed, withdrawal_page.create)),
        (withdrawal_page.PATH + "/{id}", managed(withdrawal_page.show, withdrawal_page.act)),
        (routing.PATH + "/{name}", managed(routing.show_route, routing.act_on_route)),
        (routing.BACKENDS + "/{name}", managed(routing.show_backend, routing.act_on_backend)),
    )
    return [Route(path, handler, methods=["GET", "POST"]) for path, handler in pairs]


def _forms(start: str) -> list[BaseRoute]:
    """Forms of a repository; each address shows its form and takes it."""
    upload = writing.form(writing.show_upload, writing.upload)
    pairs = (
        ("/upload/{rev}", upload),
        ("/upload/{rev}/{path:path}", upload),
        ("/edit/{rev}/{path:path}", writing.form(writing.show_edit, writing.edit)),
        ("/delete/{rev}/{path:path}", writing.form(writing.show_delete, writing.delete)),
        ("/refs", writing.form(refs.show, refs.create)),
        ("/refs/delete", writing.form(refs.show_delete, refs.delete)),
        ("/settings", writing.form(repository_settings.show, repository_settings.save)),
    )
    return [Route(start + path, handler, methods=["GET", "POST"]) for path, handler in pairs]


def _access() -> list[BaseRoute]:
    found: list[BaseRoute] = []
    for kind, prefix in access.PREFIXES.items():
        act = f"/ecotone/access/{kind.value}s/{{namespace}}/{{name}}"
        found.append(Route(act, access.answered(kind), methods=["POST"]))
        if kind is not RepoType.MODEL:  # before the pages of models, whose namespaces may be anything
            found.append(Route(f"/{prefix}{{namespace}}/{{name}}/access", page(access.shown(kind))))
    return [*found, Route("/{namespace}/{name}/access", page(access.shown(RepoType.MODEL)))]
