"""The Hugging Face Hub's face: HTTP API, LFS and Xet, for unmodified clients. Holds no rules, only their protocol."""

from starlette.routing import BaseRoute

from ecotone.hub import (
    access,
    collections,
    devices,
    files,
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
        *repositories.routes(),
        *trees.routes(),
        *listings.routes(),
        *files.routes(),
        *identity.last_routes(),
    ]
