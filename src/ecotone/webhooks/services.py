"""Subscriptions, and the outbox: events in, deliveries out. The courier carries them."""

import base64
import hashlib
import re
import secrets
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

import msgspec
import sqlalchemy as sa
from cryptography.fernet import Fernet
from sqlalchemy.orm import Session

from ecotone.accounts import Actor, user_today
from ecotone.catalog import Event
from ecotone.catalog.names import is_name, key_of
from ecotone.catalog.part import visible
from ecotone.database import STAYS, Database, alone, sweep, utc_now
from ecotone.settings import Settings
from ecotone.vocabulary import Conflict, Forbidden, Invalid, Unauthenticated
from ecotone.webhooks.entities import DOMAINS, KINDS, MASK, Delivery, Parcel, State, Watched, Webhook
from ecotone.webhooks.errors import WebhookNotFound
from ecotone.webhooks.models import DeliveryRow, WatchRow, WebhookRow
from ecotone.webhooks.payloads import payload
from ecotone.webhooks.targets import Targets

MOST_OF_A_USER = 50
MOST_WATCHED = 50
MOST_A_DAY = 1000
MOST_FAILURES = 10
PAUSES = (1, 4, 15, 40)
KEPT = timedelta(days=7)
_NAMESPACES = ("user", "org")
_SECRET = re.compile(r"[\x21-\x7e]{1,256}\Z")
_DISABLED = "the webhook was disabled"


class Webhooks:
    """The service. Thread-safe.

    Args:
        targets: where deliveries may go.
    """

    def __init__(self, database: Database, settings: Settings, targets: Targets) -> None:
        self._database = database
        self._settings = settings
        self._targets = targets
        self._wake: Callable[[], None] = lambda: None
        digest = hashlib.sha256(settings.secret("webhooks")).digest()
        self._cipher = Fernet(base64.urlsafe_b64encode(digest))

    # -- subscriptions -----------------------------------------------------------------------------------------------
    def mine(self, *, actor: Actor) -> list[Webhook]:
        """The caller's own webhooks, oldest first."""
        _check_user(actor)
        with self._database.reading() as session:
            rows = session.scalars(sa.select(WebhookRow).where(WebhookRow.user == actor.name).order_by(WebhookRow.key))
            return [_webhook(session, row) for row in rows]

    def webhook(self, webhook_id: str, *, actor: Actor) -> Webhook:
        """One of the caller's own. Raises WebhookNotFound."""
        _check_user(actor)
        with self._database.reading() as session:
            return _webhook(session, _own(session, webhook_id, actor))

    def create(
        self, url: str, watched: Sequence[Watched], domains: Sequence[str], *, actor: Actor, secret: str | None = None
    ) -> Webhook:
        """A new webhook.

        Raises:
            Invalid: naming the field; for a url that is not on the public network.
            Conflict: when the caller has too many.
        """
        _check_writer(actor)
        self._targets.check_url(url)
        row = WebhookRow(
            id=secrets.token_hex(12),
            user=actor.name,
            url=url,
            domains=_domains(domains),
            secret=self._sealed(secret),
            disabled=False,
            why_disabled="",
            failures=0,
            left_out=0,
            created=utc_now(),
        )
        watches = _watches(watched)
        if not watches:
            raise Invalid("Nothing is watched; name at least one repository, user or org.", param="watched")
        with self._database.writing() as session:
            alone(session, f"webhooks of {actor.name}")
            count = sa.select(sa.func.count()).where(WebhookRow.user == actor.name)
            if (session.scalar(count) or 0) >= MOST_OF_A_USER:
                raise Conflict(f"You have {MOST_OF_A_USER} webhooks, the most that one user may have.")
            session.add(row)
            session.flush()
            _watch(session, row, watches)
            return _webhook(session, row)

    def update(
        self,
        webhook_id: str,
        *,
        actor: Actor,
        url: str | None = None,
        watched: Sequence[Watched] = (),
        domains: Sequence[str] | None = None,
        secret: str | None = None,
    ) -> Webhook:
        """Change what is given; an empty `watched` (old clients send one) and a masked secret leave theirs alone."""
        _check_writer(actor)
        if url is not None:
            self._targets.check_url(url)
        watches = _watches(watched)
        with self._database.writing() as session:
            row = _own(session, webhook_id, actor, hold=True)
            row.url = url or row.url
            row.domains = row.domains if domains is None else _domains(domains)
            if secret is not None and secret != MASK:
                row.secret = self._sealed(secret)
            if watches:
                session.execute(sa.delete(WatchRow).where(WatchRow.webhook_key == row.key))
                _watch(session, row, watches)
            session.flush()
            return _webhook(session, row)

    def set_disabled(self, webhook_id: str, disabled: bool, *, actor: Actor) -> Webhook:
        """Stop a webhook, giving up what waits, or let it start afresh."""
        _check_writer(actor)
        with self._database.writing() as session:
            row = _own(session, webhook_id, actor, hold=True)
            if disabled:
                _disable(session, row, f"by {actor.name}")
            else:
                row.disabled, row.why_disabled, row.failures = False, "", 0
            return _webhook(session, row)

    def delete(self, webhook_id: str, *, actor: Actor) -> None:
        _check_writer(actor)
        with self._database.writing() as session:
            session.delete(_own(session, webhook_id, actor, hold=True))

    def deliveries(
        self, webhook_id: str, *, actor: Actor, before: int | None = None, limit: int = 50
    ) -> list[Delivery]:
        """What one of the caller's webhooks was or is to be sent, newest first; `before` is a delivery's number."""
        _check_user(actor)
        with self._database.reading() as session:
            wanted = sa.select(DeliveryRow).where(DeliveryRow.webhook_key == _own(session, webhook_id, actor).key)
            if before is not None:
                wanted = wanted.where(DeliveryRow.key < before)
            return [_delivery(row) for row in session.scalars(wanted.order_by(DeliveryRow.key.desc()).limit(limit))]

    def _sealed(self, secret: str | None) -> str | None:
        if not secret:
            return None
        if not _SECRET.match(secret):
            raise Invalid("A secret has 1 to 256 printable ASCII characters and no space.", param="secret")
        return self._cipher.encrypt(secret.encode()).decode()

    # -- the outbox --------------------------------------------------------------------------------------------------
    def on_waiting(self, wake: Callable[[], None]) -> None:
        """Name what is called, from any thread, when something waits to be delivered."""
        self._wake = wake

    def enqueue(self, session: Session, event: Event) -> None:
        """Write an event's deliveries in the transaction of the change: a listener of the catalogue's events."""
        domain = event.scope.partition(".")[0]
        now = utc_now()
        written = False
        # one that is deleted at this moment must not end the change that is told of
        told = sa.select(WebhookRow).where(WebhookRow.key.in_(_watching(event))).order_by(WebhookRow.key)
        for row in session.scalars(told.with_for_update(**STAYS)):
            if row.disabled or domain not in row.domains or not _may_know(session, row.user, event.model.private):
                continue
            if _sent_lately(session, row, now) >= MOST_A_DAY:
                mine = sa.update(WebhookRow).where(WebhookRow.key == row.key)
                session.execute(mine.values(left_out=WebhookRow.left_out + 1))
                continue
            session.add(self._delivery_row(row, event, now))
            written = True
        if event.was is not None:
            _follow(session, event)
        if written:
            sa.event.listen(session, "after_commit", lambda _session: self._wake(), once=True)

    def _delivery_row(self, row: WebhookRow, event: Event, now: datetime) -> DeliveryRow:
        body = msgspec.json.encode(payload(event, row.id, self._settings.base_url)).decode()
        return DeliveryRow(
            id=secrets.token_hex(16),
            webhook_key=row.key,
            event=f"{event.scope} {event.action}",
            subject=event.was or event.model.id,
            model_key=event.model.key,
            private=event.model.private,
            body=body,
            created=now,
            state="waiting",
            attempts=0,
            due=now,
            tried=None,
            status=None,
            problem="",
        )

    def due(
        self, *, but: Collection[int] = (), but_of: Collection[str] = (), limit: int = 50
    ) -> tuple[list[Parcel], float]:
        """The oldest waiting delivery of each webhook, if its time has come, and the seconds until the next one's.

        Args:
            but: keys of webhooks that are being delivered to.
            but_of: users whose webhooks are left out for now.
        """
        now = utc_now()
        heads = (
            sa.select(sa.func.min(DeliveryRow.key).label("head"))
            .where(DeliveryRow.state == "waiting", DeliveryRow.webhook_key.not_in(list(but)))
            .group_by(DeliveryRow.webhook_key)
            .subquery()
        )
        wanted = (
            sa.select(DeliveryRow, WebhookRow)
            .join(heads, heads.c.head == DeliveryRow.key)
            .join(WebhookRow, WebhookRow.key == DeliveryRow.webhook_key)
            .where(WebhookRow.user.not_in(list(but_of)))
            .order_by(DeliveryRow.due)
            .limit(limit)
        )
        with self._database.reading() as session:
            rows = session.execute(wanted).all()
        ready = [self._parcel(delivery, webhook) for delivery, webhook in rows if delivery.due <= now]
        later = [(delivery.due - now).total_seconds() for delivery, _ in rows if delivery.due > now]
        return ready, min(later, default=60.0)

    def _parcel(self, delivery: DeliveryRow, webhook: WebhookRow) -> Parcel:
        return Parcel(
            key=delivery.key,
            id=delivery.id,
            webhook_id=webhook.id,
            webhook_key=webhook.key,
            user=webhook.user,
            url=webhook.url,
            body=delivery.body.encode(),
            secret=self._cipher.decrypt(webhook.secret.encode()).decode() if webhook.secret else None,
            attempts=delivery.attempts,
        )

    def may_send(self, parcel: Parcel) -> bool:
        """Whether a delivery is still to be made; one that its owner may no longer know of is given up here."""
        with self._database.writing() as session:
            row = session.get(DeliveryRow, parcel.key)
            webhook = session.get(WebhookRow, parcel.webhook_key)
            if row is None or webhook is None or row.state != "waiting":
                return False
            if not webhook.disabled and _may_know(session, webhook.user, row.private):
                return True
            why = _DISABLED if webhook.disabled else "the webhook's owner has no valid token any more"
            mine = (DeliveryRow.key == row.key, DeliveryRow.state == "waiting")  # or deleted, or made, by now
            session.execute(sa.update(DeliveryRow).where(*mine).values(state="given_up", problem=why))
            return False

    def settle(self, parcel: Parcel, *, status: int | None, problem: str) -> None:
        """Note how a try ended; without a `problem` it is delivered. Ends a webhook that fails again and again."""
        now = utc_now()
        with self._database.writing() as session:
            # the webhook first, as who disables or deletes it holds it and then its deliveries
            webhook = session.get(WebhookRow, parcel.webhook_key, with_for_update=True)
            row = session.get(DeliveryRow, parcel.key, with_for_update=True)
            if row is None or webhook is None:
                return
            row.attempts, row.tried, row.status, row.problem = row.attempts + 1, now, status, problem[:300]
            if not problem:
                row.state, webhook.failures = "delivered", 0
            elif row.state == "waiting" and row.attempts <= len(PAUSES):
                row.due = now + timedelta(seconds=self._settings.webhook_pause * PAUSES[row.attempts - 1])
            elif row.state == "waiting":
                row.state = "given_up"
                webhook.failures += 1
                if webhook.failures >= MOST_FAILURES:
                    _disable(session, webhook, f"{webhook.failures} deliveries in a row failed; the last: {problem}")

    def forget_old(self) -> None:
        """Drop deliveries that ended a week ago."""
        with self._database.writing() as session:
            sweep(session, DeliveryRow, DeliveryRow.state != "waiting", DeliveryRow.created < utc_now() - KEPT)


def _check_user(actor: Actor) -> None:
    if actor.kind != "user":
        raise Unauthenticated("This needs a token: log in with `hf auth login`, or set HF_TOKEN.")


def _check_writer(actor: Actor) -> None:
    _check_user(actor)
    if not actor.may_write:
        raise Forbidden("This token may only read; webhooks are changed with one that may write.")


def _own(session: Session, webhook_id: str, actor: Actor, *, hold: bool = False) -> WebhookRow:
    wanted = sa.select(WebhookRow).where(WebhookRow.id == webhook_id[:24], WebhookRow.user == actor.name)
    row = session.scalar(wanted.with_for_update() if hold else wanted)
    if row is None:
        raise WebhookNotFound(webhook_id)
    return row


def _domains(domains: Sequence[str]) -> list[str]:
    unknown = [word for word in domains if word not in DOMAINS]
    if unknown or not domains:
        raise Invalid(f"domains is {list(domains)[:5]}; expected repo, discussion or both.", param="domains")
    return [word for word in DOMAINS if word in domains]


def _watches(watched: Sequence[Watched]) -> list[Watched]:
    """Checked, each once. Whether there is such a repository is not looked up: that would tell of private ones."""
    if len(watched) > MOST_WATCHED:
        raise Invalid(f"{len(watched)} things are watched; at most {MOST_WATCHED} can be.", param="watched")
    for one in watched:
        if one.type == "bucket":
            raise Invalid("This hub has no buckets; watch a model, dataset, space, user or org.", param="watched")
        if one.type not in KINDS:
            raise Invalid(f"type is {one.type[:40]!r}; expected one of {', '.join(KINDS)}.", param="watched")
        parts = one.name.split("/")
        if len(parts) != (1 if one.type in _NAMESPACES else 2) or not all(map(is_name, parts)):
            expected = "a namespace" if one.type in _NAMESPACES else "namespace/name"
            raise Invalid(f"{one.name[:200]!r} is no {one.type}; expected {expected}.", param="watched")
    return list(dict.fromkeys(watched))


def _watch(session: Session, row: WebhookRow, watches: Sequence[Watched]) -> None:
    session.add_all(
        WatchRow(webhook_key=row.key, kind=one.type, name=one.name, folded=key_of(one.name)) for one in watches
    )


def _watching(event: Event) -> "sa.Select[int]":
    """Keys of webhooks that watch what an event is about, by its name or by the one it had."""
    model = event.model
    names = {key_of(model.id), key_of(event.was or model.id)}
    repository = sa.and_(WatchRow.kind == model.repo_type.value, WatchRow.folded.in_(sorted(names)))
    namespace = sa.and_(WatchRow.kind.in_(_NAMESPACES), WatchRow.folded == key_of(model.namespace))
    return sa.select(WatchRow.webhook_key).where(sa.or_(repository, namespace))


def _follow(session: Session, event: Event) -> None:
    """Whoever watches a repository by name watches it by its new one."""
    old = sa.and_(WatchRow.kind == event.model.repo_type.value, WatchRow.folded == key_of(event.was or ""))
    session.execute(sa.update(WatchRow).where(old).values(name=event.model.id, folded=key_of(event.model.id)))


def _may_know(session: Session, user: str, private: bool) -> bool:
    owner = user_today(session, user)
    return owner is not None and visible(private, owner)


def _sent_lately(session: Session, row: WebhookRow, now: datetime) -> int:
    recent = sa.and_(DeliveryRow.webhook_key == row.key, DeliveryRow.created > now - timedelta(hours=24))
    return session.scalar(sa.select(sa.func.count()).where(recent)) or 0


def _disable(session: Session, row: WebhookRow, why: str) -> None:
    row.disabled, row.why_disabled = True, why[:300]
    waiting = sa.and_(DeliveryRow.webhook_key == row.key, DeliveryRow.state == "waiting")
    session.execute(sa.update(DeliveryRow).where(waiting).values(state="given_up", problem=_DISABLED))


def _webhook(session: Session, row: WebhookRow) -> Webhook:
    watches = session.scalars(sa.select(WatchRow).where(WatchRow.webhook_key == row.key).order_by(WatchRow.key))
    return Webhook(
        id=row.id,
        user=row.user,
        url=row.url,
        watched=tuple(Watched(watch.kind, watch.name) for watch in watches),
        domains=tuple(row.domains),
        has_secret=row.secret is not None,
        disabled=row.disabled,
        why_disabled=row.why_disabled,
        failures=row.failures,
        left_out=row.left_out,
        created=row.created,
    )


def _delivery(row: DeliveryRow) -> Delivery:
    return Delivery(
        id=row.id,
        event=row.event,
        subject=row.subject,
        state=msgspec.convert(row.state, State),
        attempts=row.attempts,
        created=row.created,
        due=row.due,
        tried=row.tried,
        status=row.status,
        problem=row.problem,
        number=row.key,
    )
