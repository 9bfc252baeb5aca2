"""The REST API that command line, pages and scripts use, under `/api/ecotone/v1`, with an OpenAPI document."""

from ecotone.api import accounts, gateway, ledger, licences, models, policy, upkeep, webhooks, work
from ecotone.api.endpoint import ENDPOINTS, PREFIX, routes
from ecotone.api.openapi import document

__all__ = [
    "ENDPOINTS",
    "PREFIX",
    "accounts",
    "document",
    "gateway",
    "ledger",
    "licences",
    "models",
    "policy",
    "routes",
    "upkeep",
    "webhooks",
    "work",
]
