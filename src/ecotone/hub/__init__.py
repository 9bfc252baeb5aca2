"""The Hugging Face Hub's face: HTTP API, LFS and Xet, for unmodified clients. Holds no rules, only their protocol."""

from starlette.routing import BaseRoute

from ecotone.hub import (
    access,
    attachments,
    collections,
    copies,
    devices,
    discussions,
    files,
    git,
    history,
    identity,
    lfs,
    listings,
    repositories,
    tokens,
    trees,
    uploads,
    webhooks,
    xet,
)

__all__ = ["routes"]


def routes() -> list[BaseRoute]:
    """All routes of the hub, on raw undecoded paths; those with more fixed segments before those with fewer."""
    return [
        *xet.routes(),
        *lfs.routes(),
        *tokens.routes(),
        *identity.routes(),
        *devices.routes(),
        *access.routes(),
        *collections.routes(),
        *webhooks.routes(),
        *uploads.routes(),
        *discussions.routes(),
        *attachments.routes(),
        *repositories.routes(),
        *copies.routes(),
        *history.routes(),
        *trees.routes(),
        *git.routes(),
        *listings.routes(),
        *files.routes(),
        *identity.last_routes(),
    ]
