"""Webhooks: who outside is told of changes, the outbox of what is to be told, and its signed delivery.

An event is written to the outbox in the transaction of the change that it tells of, and is delivered at least once,
in order for each webhook. Knows nothing of the hub's HTTP face.
"""

from ecotone.webhooks.courier import Courier
from ecotone.webhooks.entities import MASK, Delivery, Watched, Webhook
from ecotone.webhooks.errors import WebhookNotFound
from ecotone.webhooks.services import Webhooks
from ecotone.webhooks.signing import signature
from ecotone.webhooks.targets import Targets

__all__ = ["MASK", "Courier", "Delivery", "Targets", "Watched", "Webhook", "WebhookNotFound", "Webhooks", "signature"]
