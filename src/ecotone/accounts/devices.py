"""Logging in from a device without a browser (RFC 8628), and renewing the tokens that came of it.

The device gets a secret code and shows a short one; a logged-in user types the short one, sees what is asked, and
allows it; the device fetches an ordinary user's token, which expires. Secret codes and tokens are stored as hashes.
What a token may do never passes the role of who allowed it, nor lasts beyond the token with which it was allowed.
"""

import secrets
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts.actors import Actor
from ecotone.accounts.models import DeviceLoginRow, RefreshRow, TokenRow
from ecotone.accounts.users import is_living, revoke, roles_up_to, secret_hash, token_row
from ecotone.database import Database, alone, sweep, utc_now
from ecotone.vocabulary import EcotoneError, Forbidden, Invalid, NotFound, Role, Unavailable

CODE_SECONDS = 900
INTERVAL_SECONDS = 5
SLOWER_BY = 5
TOKEN_DAYS = 30
REFRESH_DAYS = 60
MOST_WAITING = 2000
MOST_WAITING_OF_ONE = 300
MOST_WRONG_CODES = 10
WRONG_CODES_SECONDS = 600.0
REUSE_SECONDS = 60
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels, so that no words come up (RFC 8628, section 6.1)


class DeviceRefusal(EcotoneError):
    """A refusal in OAuth's own words: `code` is one of RFC 6749 section 5.2 or RFC 8628 section 3.5."""


@dataclass(frozen=True, slots=True)
class DeviceLogin:
    """A login that waits for its user. `device_code` is known only when it is made."""

    user_code: str
    asked_from: str
    created: datetime
    expires: datetime
    interval: int
    device_code: str = ""


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A user's token, shown once, with what renews it. `seconds` is how long it lasts."""

    token: str
    token_id: str
    user: str
    role: Role
    seconds: int
    refresh_token: str


class DeviceLogins:
    """The service. Thread-safe. Wrong codes are counted in this process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._wrong: dict[str, list[float]] = {}

    # -- the device --------------------------------------------------------------------------------------------------
    def begin(self, asked_from: str, *, client: str) -> DeviceLogin:
        """A new login.

        Args:
            asked_from: shown to the user: which program asks, from where.
            client: the device's address; one address may have a bounded number of them waiting.

        Raises:
            Unavailable: when too many wait already.
        """
        now = utc_now()
        device_code, user_code = "ecd_" + secrets.token_urlsafe(32), _user_code()
        told = f"{asked_from[:120]}, {client[:60]}"
        row = DeviceLoginRow(
            device_hash=secret_hash(device_code),
            user_code=user_code,
            state="pending",
            asked_from=told,
            created=now,
            expires=now + timedelta(seconds=CODE_SECONDS),
            interval=INTERVAL_SECONDS,
            polled=None,
            user=None,
            role=None,
            until=None,
            approved_with=None,
        )
        with self._database.writing() as session:
            alone(session, "device logins")
            session.execute(sa.delete(DeviceLoginRow).where(DeviceLoginRow.expires < now - timedelta(hours=1)))
            waiting = sa.select(sa.func.count()).select_from(DeviceLoginRow).where(DeviceLoginRow.expires > now)
            of_one = waiting.where(DeviceLoginRow.asked_from.endswith(f", {client[:60]}", autoescape=True))
            if (session.scalar(waiting) or 0) >= MOST_WAITING or (session.scalar(of_one) or 0) >= MOST_WAITING_OF_ONE:
                raise Unavailable("Too many logins wait for their users; try again in some minutes.", retry_after=60)
            session.add(row)
        return DeviceLogin(user_code, told, now, row.expires, INTERVAL_SECONDS, device_code)

    def fetch(self, device_code: str) -> IssuedToken:
        """The token of a login that was allowed, once.

        Raises:
            DeviceRefusal: authorization_pending, slow_down, access_denied, expired_token or invalid_grant.
        """
        now = utc_now()
        with self._database.writing() as session:
            row = session.get(DeviceLoginRow, secret_hash(device_code), with_for_update=True)
            refusal = "invalid_grant" if row is None or row.state == "used" else _poll(row, now)
            if refusal is None:
                assert row is not None
                row.state = "used"
                return self._issued(session, row, now)
        raise DeviceRefusal(_SENTENCES[refusal], code=refusal)

    def _issued(self, session: Session, row: DeviceLoginRow, now: datetime) -> IssuedToken:
        allowed = session.get(TokenRow, row.approved_with, with_for_update=True) if row.approved_with else None
        if row.user is None or row.role is None or allowed is None or not is_living(allowed):
            raise DeviceRefusal(_SENTENCES["access_denied"], code="access_denied")
        return _issue(session, row.user, Role(row.role), row.until, now, allowed.id)

    def refresh(self, refresh_token: str) -> IssuedToken:
        """A new token for the one that a refresh token came with, which ends; a refresh token counts once.

        Raises:
            DeviceRefusal: invalid_grant, when it is unknown, used, too old, or its token was revoked.
        """
        now = utc_now()
        with self._database.writing() as session:
            row = session.get(RefreshRow, secret_hash(refresh_token), with_for_update=True)
            token = _held(session, row.token_id) if row is not None else None
            if row is not None and row.used is not None and now - row.used > timedelta(seconds=REUSE_SECONDS):
                _revoke_followers(session, row)  # two hold it: neither goes on
            elif row is not None and row.used is None and token is not None and _may_renew(row, token, now):
                made = _issue(session, token.user, Role(token.role), row.until, now, token.allowed_with)
                row.used, row.followed_by = now, made.token_id
                let_in = sa.update(TokenRow).where(TokenRow.allowed_with == token.id)
                session.execute(let_in.values(allowed_with=made.token_id))
                token.expires = min(token.expires or now, now + timedelta(seconds=REUSE_SECONDS))
                return made
        raise DeviceRefusal(_SENTENCES["invalid_grant"], code="invalid_grant")

    # -- the user ----------------------------------------------------------------------------------------------------
    def waiting(self, user_code: str, *, actor: Actor) -> DeviceLogin:
        """The login that shows this code.

        Raises:
            NotFound: when none waits under it.
            Forbidden: after too many wrong codes.
        """
        with self._database.reading() as session:
            row = self._waiting(session, user_code, actor, hold=False)
        return DeviceLogin(row.user_code, row.asked_from, row.created, row.expires, row.interval)

    def allow(self, user_code: str, *, actor: Actor, role: Role) -> None:
        """Let the device have a token of the caller with a role up to the caller's own.

        Raises:
            Invalid: for a role beyond the caller's own.
            NotFound, Forbidden: as `waiting`.
        """
        if actor.role is None or role not in roles_up_to(actor.role):
            raise Invalid(f"You cannot hand on the role {role.value!r}; you have {actor.role}.", param="role")
        with self._database.writing() as session:
            row = self._waiting(session, user_code, actor)
            own = session.get(TokenRow, actor.token) if actor.token else None
            if own is None or not is_living(own):
                raise Forbidden("Log in with a token of your own to allow this.")
            row.state, row.user, row.role = "allowed", actor.name, role.value
            row.until, row.approved_with = own.expires, own.id

    def deny(self, user_code: str, *, actor: Actor) -> None:
        """Refuse the device. Raises as `waiting`."""
        with self._database.writing() as session:
            self._waiting(session, user_code, actor).state = "denied"

    def _waiting(self, session: Session, user_code: str, actor: Actor, *, hold: bool = True) -> DeviceLoginRow:
        self._check_tries(actor.name)
        code = written_code(user_code)
        wanted = sa.select(DeviceLoginRow).where(DeviceLoginRow.user_code == code, DeviceLoginRow.state == "pending")
        row = session.scalar(wanted.with_for_update() if hold else wanted)
        if row is None or row.expires <= utc_now():
            self._count_wrong(actor.name)
            raise NotFound(
                "No login waits under that code. Codes last 15 minutes and count once; compare it with the one that "
                "your terminal shows.",
                param="user_code",
            )
        return row

    def _check_tries(self, user: str) -> None:
        with self._lock:
            recent = [at for at in self._wrong.get(user, ()) if time.monotonic() - at < WRONG_CODES_SECONDS]
            if len(recent) >= MOST_WRONG_CODES:
                raise Forbidden("Too many wrong codes; wait ten minutes, then begin the login anew.")

    def _count_wrong(self, user: str) -> None:
        now = time.monotonic()
        with self._lock:
            if len(self._wrong) > 10_000:
                self._wrong.clear()
            recent = [at for at in self._wrong.get(user, ()) if now - at < WRONG_CODES_SECONDS]
            self._wrong[user] = [*recent, now][-MOST_WRONG_CODES:]


_SENTENCES = {
    "authorization_pending": "The user has not answered yet; ask again after the interval.",
    "slow_down": "Asked too often; wait five seconds longer between questions.",
    "access_denied": "The user refused the login, or the token with which it was allowed has ended.",
    "expired_token": "The code has expired; begin the login anew.",
    "invalid_grant": "The code or refresh token is unknown, used, expired or revoked; log in anew.",
}


def written_code(text: str) -> str:
    """A user's code as it is stored, from what somebody typed."""
    letters = "".join(c for c in text[:40].upper() if c in _LETTERS)
    return f"{letters[:4]}-{letters[4:]}" if len(letters) == 8 else ""


def _user_code() -> str:
    return written_code("".join(secrets.choice(_LETTERS) for _ in range(8)))


def _poll(row: DeviceLoginRow, now: datetime) -> str | None:
    """Why a login gives no token yet; None when it does."""
    early = row.polled is not None and now - row.polled < timedelta(seconds=row.interval - 0.5)
    row.polled = now
    if row.expires <= now:
        return "expired_token"
    if row.state == "denied":
        return "access_denied"
    if early:
        row.interval = min(row.interval + SLOWER_BY, 60)
        return "slow_down"
    return None if row.state == "allowed" else "authorization_pending"


def _issue(
    session: Session, user: str, role: Role, until: datetime | None, now: datetime, allowed_with: str | None
) -> IssuedToken:
    secret, refresh = "ect_" + secrets.token_urlsafe(32), "ecr_" + secrets.token_urlsafe(32)
    expires = min(filter(None, (now + timedelta(days=TOKEN_DAYS), until)))
    row = token_row(secret_hash(secret), user, role, "device login", expires, allowed_with)
    session.add(row)
    session.flush()
    kept = min(filter(None, (now + timedelta(days=REFRESH_DAYS), until)))
    sweep(session, RefreshRow, RefreshRow.expires < now)
    session.add(
        RefreshRow(hash=secret_hash(refresh), token_id=row.id, expires=kept, until=until, used=None, followed_by=None)
    )
    return IssuedToken(secret, row.id, user, role, int((expires - now).total_seconds()), refresh)


def _held(session: Session, token_id: str) -> TokenRow | None:
    """A token that nobody revokes until the transaction ends, by itself or with the one that let it in: who revokes
    that holds it first, and then looks for what it let in."""
    token = session.get(TokenRow, token_id)
    if token is not None and token.allowed_with is not None:
        session.get(TokenRow, token.allowed_with, with_for_update=True)
    return session.get(TokenRow, token_id, with_for_update=True, populate_existing=True)


def _may_renew(row: RefreshRow, token: TokenRow, now: datetime) -> bool:
    return row.expires > now and token.revoked is None


def _revoke_followers(session: Session, row: RefreshRow) -> None:
    following = row.followed_by
    while following is not None:
        token = session.get(TokenRow, following)
        if token is not None:
            revoke(session, token)
        following = session.scalar(
            sa.select(RefreshRow.followed_by).where(RefreshRow.token_id == following, RefreshRow.used.is_not(None))
        )
