"""The REST API that command line, pages and scripts use, under `/api/ecotone/v1`, with an OpenAPI document."""

from ecotone.api import (
    accounts,
    answers,
    bills,
    duties,
    edge_words,
    families,
    gateway,
    keys,
    ledger,
    licences,
    limits,
    lineage,
    models,
    policy,
    prices,
    upkeep,
    webhooks,
    work,
)
from ecotone.api.endpoint import ENDPOINTS, PREFIX, routes
from ecotone.api.feed import FEED, feed_routes
from ecotone.api.openapi import document

__all__ = [
    "ENDPOINTS",
    "FEED",
    "PREFIX",
    "accounts",
    "answers",
    "bills",
    "document",
    "duties",
    "edge_words",
    "families",
    "feed_routes",
    "gateway",
    "keys",
    "ledger",
    "licences",
    "limits",
    "lineage",
    "models",
    "policy",
    "prices",
    "routes",
    "upkeep",
    "webhooks",
    "work",
]
