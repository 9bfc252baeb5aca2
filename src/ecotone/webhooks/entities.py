"""What webhooks hand out: frozen values, never rows, never secrets."""

from datetime import datetime
from typing import Literal

import msgspec

MASK = "********"
"""What is shown in the place of a secret; sent back in an update it leaves the secret as it is."""

DOMAINS = ("repo", "discussion")
KINDS = ("model", "dataset", "space", "user", "org")
State = Literal["waiting", "delivered", "given_up"]


class Watched(msgspec.Struct, frozen=True):
    """A repository (`model`, `dataset`, `space`; name is its id) or all of a namespace (`user`, `org`)."""

    type: str
    name: str


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """`failures` counts deliveries given up in a row, `left_out` events beyond the most of a day."""

    id: str
    user: str
    url: str
    watched: tuple[Watched, ...]
    domains: tuple[str, ...]
    has_secret: bool
    disabled: bool
    why_disabled: str
    failures: int
    left_out: int
    created: datetime


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """`status` is that of the last answer, `problem` why the last try failed."""

    id: str
    event: str
    subject: str
    state: State
    attempts: int
    created: datetime
    due: datetime
    tried: datetime | None
    status: int | None
    problem: str
    number: int


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery as the courier takes it; `secret` is in the clear."""

    key: int
    id: str
    webhook_id: str
    webhook_key: int
    user: str
    url: str
    body: bytes
    secret: str | None
    attempts: int
