"""Keys of projects: made, imported, changed, rotated and revoked; and what each may do at this moment.

A key's rights are what its own lists, its project's and the standing of who answers for it let pass together, worked
out anew for each snapshot: whoever loses the right to make keys of a project takes those they answer for out of force.
"""

import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts.actors import Actor
from ecotone.accounts.errors import KeyNotFound, ProjectNotFound
from ecotone.accounts.models import KeyRow, OldSecretRow, ProjectRow, TokenRow
from ecotone.accounts.patterns import (
    checked_models,
    checked_networks,
    models_of_both,
    models_within,
    networks_of_both,
    networks_within,
)
from ecotone.accounts.projects import checked_tags
from ecotone.accounts.rights import ADMINISTRATOR, check_fields, standing, vouchers, vouches
from ecotone.accounts.users import bears, secret_hash
from ecotone.database import STAYS, Database, alone, sweep, utc_now
from ecotone.vocabulary import Conflict, Forbidden, Invalid

MOST_OVERLAP = timedelta(days=90)
_KEPT_AFTER = timedelta(days=1)  # so that a path can tell what has expired from what was revoked
NOTE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{0,200}")
HASH = re.compile(r"[0-9a-f]{64}")


class KeyTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What can be set of a key: a note, when it ends, patterns of models, networks, tags; empty bounds nothing."""

    note: str = ""
    expires: datetime | None = None
    models: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def checked(self) -> "KeyTerms":
        """The same in its usual writing. Raises Invalid, naming the field."""
        if not NOTE.fullmatch(self.note):
            raise Invalid("A note is one line of at most 200 letters.", param="note")
        if self.expires is not None and self.expires.tzinfo is None:
            raise Invalid("`expires` needs its zone, e.g. 2027-01-31T00:00:00Z.", param="expires")
        return msgspec.structs.replace(
            self,
            models=checked_models(self.models),
            networks=checked_networks(self.networks),
            tags=checked_tags(self.tags),
        )


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """A key without its secret. `state` is in force, expired, revoked or suspended; `old_until` ends an overlap."""

    id: str
    hash: str
    project: str
    created: datetime
    created_by: str
    revoked: datetime | None
    terms: KeyTerms
    vouched_by: str
    state: str
    old_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class LivingSecret:
    """One secret of a key as it counts now, with the rights that are left of it. `expires` is None for never."""

    hash: str
    key_id: str
    project: str
    models: tuple[str, ...]
    networks: tuple[str, ...]
    tags: tuple[str, ...]
    expires: datetime | None


class Keys:
    """The keys of one database. What is not the caller's to see looks absent."""

    _database: Database

    def create_key(
        self,
        project: str,
        *,
        actor: Actor,
        terms: KeyTerms | None = None,
        sha256: str | None = None,
        also: Callable[[Session, str], None] | None = None,
    ) -> tuple[KeyInfo, str]:
        """A key of a project; the secret is returned once and stored as a hash.

        Args:
            sha256: of a secret that exists already elsewhere, which an administrator takes over; none is returned then.
            also: what is to be written with the key in one transaction, called with its id.

        Raises:
            ProjectNotFound, Invalid.
            Forbidden: when the caller may not make keys of the project, or none as wide as this.
            Conflict: when the secret is in use here.
        """
        wanted = (terms or KeyTerms()).checked()
        secret = "" if sha256 is not None else "eck_" + secrets.token_urlsafe(32)
        with self._database.writing() as session:
            if sha256 is not None:
                alone(session, "imported keys")
            owner = session.get(ProjectRow, project, with_for_update=STAYS)
            if owner is None:
                raise ProjectNotFound(project)
            _check_minting(actor, owner, wanted, imported=sha256 is not None)
            hashed = secret_hash(secret) if sha256 is None else _free(session, sha256)
            row = KeyRow(id=secrets.token_hex(6), hash=hashed, project=project, created=utc_now(), revoked=None)
            row.created_by = row.vouched_by = actor.name
            _fill(row, wanted)
            session.add(row)
            session.flush()
            if also is not None:
                also(session, row.id)
            return _key_info(session, row), secret

    def keys(self, project: str | None = None, *, actor: Actor | None = None) -> list[KeyInfo]:
        """Keys, oldest first, that `actor` may see: an administrator all, an owner those of their projects."""
        with self._database.reading() as session:
            wanted = sa.select(KeyRow).order_by(KeyRow.created)
            if project is not None:
                wanted = wanted.where(KeyRow.project == project)
            rows = list(session.scalars(wanted))
            if actor is not None and not actor.is_admin:
                seen = {p.name for p in session.scalars(sa.select(ProjectRow)) if standing(actor, p.owners)}
                rows = [row for row in rows if row.project in seen]
            return _key_infos(session, rows)

    def key(self, key_id: str, *, actor: Actor | None = None) -> KeyInfo:
        """One key. Raises KeyNotFound, also for one that `actor` may not see."""
        with self._database.reading() as session:
            return _key_info(session, _seen(session, key_id, actor)[0])

    def set_key(self, key_id: str, terms: KeyTerms, *, actor: Actor) -> KeyInfo:
        """Put terms in the place of those that a key has.

        Raises:
            KeyNotFound, Invalid.
            Conflict: for a key that was revoked.
            Forbidden: for an owner who would make it wider, or who does not answer for it.
        """
        wanted = terms.checked()
        with self._database.writing() as session:
            row, role = _kept(session, key_id, actor)
            before = _terms(row)
            changed = [f for f in wanted.__struct_fields__ if getattr(wanted, f) != getattr(before, f)]
            check_fields(role, changed)
            if role != ADMINISTRATOR:
                _check_narrower(wanted, before)
            _fill(row, wanted)
            return _key_info(session, row)

    def rotate_key(self, key_id: str, *, overlap: timedelta, actor: Actor) -> tuple[KeyInfo, str]:
        """A new secret for a key, returned once; those before end after the overlap.

        Raises:
            KeyNotFound, Invalid, Conflict, Forbidden: as `set_key`.
        """
        if not timedelta(0) <= overlap <= MOST_OVERLAP:
            raise Invalid(f"The overlap is 0 to {MOST_OVERLAP.days} days.", param="overlap_seconds")
        secret, now = "eck_" + secrets.token_urlsafe(32), utc_now()
        with self._database.writing() as session:
            row, _ = _kept(session, key_id, actor)
            until = now + overlap
            sweep(session, OldSecretRow, OldSecretRow.until < now - _KEPT_AFTER)
            of_key = sa.update(OldSecretRow).where(OldSecretRow.key_id == key_id, OldSecretRow.until > until)
            session.execute(of_key.values(until=until))
            session.add(OldSecretRow(hash=row.hash, key_id=key_id, until=until))
            row.hash = secret_hash(secret)
            session.flush()
            return _key_info(session, row), secret

    def adopt_key(self, key_id: str, *, actor: Actor) -> KeyInfo:
        """Let an administrator answer for a key, so that it no longer hangs on who did. Raises KeyNotFound."""
        if not actor.is_admin:
            raise Forbidden("Only administrators take keys over.")
        with self._database.writing() as session:
            row, _ = _seen(session, key_id, actor, hold=True)
            row.vouched_by = actor.name
            return _key_info(session, row)

    def revoke_key(self, key_id: str, *, actor: Actor) -> KeyInfo:
        """End a key and all of its secrets. An owner may end every key of their project. Raises KeyNotFound."""
        with self._database.writing() as session:
            row, _ = _seen(session, key_id, actor, hold=True)
            row.revoked = row.revoked or utc_now()
            return _key_info(session, row)

    def check_key_limits(self, key_id: str, *, actor: Actor) -> None:
        """Raises KeyNotFound or Forbidden for who may not narrow what a key may use."""
        with self._database.reading() as session:
            _kept(session, key_id, actor, hold=False)

    def living_secrets(self) -> list[LivingSecret]:
        """Every secret that counts, and for a day those that have expired; rights as they are at this moment."""
        with self._database.reading() as session:
            roles = vouchers(session)
            projects = {row.name: row for row in session.scalars(sa.select(ProjectRow))}
            old: dict[str, list[OldSecretRow]] = {}
            for former in session.scalars(sa.select(OldSecretRow)):
                old.setdefault(former.key_id, []).append(former)
            found: list[LivingSecret] = []
            for row in session.scalars(sa.select(KeyRow).where(KeyRow.revoked.is_(None))):
                project = projects[row.project]
                if vouches(row.vouched_by, project, roles):
                    found += _living(row, project, old.get(row.id, ()))
            return found


def key_ids(session: Session, project: str) -> list[str]:
    """The ids of a project's keys, for a transaction that goes on with them."""
    return list(session.scalars(sa.select(KeyRow.id).where(KeyRow.project == project)))


def check_kept(session: Session, *, project: str | None, key: str | None) -> None:
    """Raises ProjectNotFound or KeyNotFound for what is told and not there, in a transaction of the caller's."""
    if project and session.get(ProjectRow, project) is None:
        raise ProjectNotFound(project)
    if key and session.get(KeyRow, key) is None:
        raise KeyNotFound(key)


def key_behind(session: Session, hashed: str) -> Actor | None:
    """The key that a secret belongs to; None when it is unknown or has ended."""
    now = utc_now()
    row = session.scalar(sa.select(KeyRow).where(KeyRow.hash == hashed))
    if row is None:
        old = session.get(OldSecretRow, hashed)
        row = session.get(KeyRow, old.key_id) if old is not None and old.until > now else None
    if row is None or row.revoked is not None or (row.expires is not None and row.expires <= now):
        return None
    return Actor("key", f"key {row.id}", None, row.project)


def _seen(session: Session, key_id: str, actor: Actor | None, *, hold: bool = False) -> tuple[KeyRow, str]:
    """A key, and as what the caller acts on it. Raises KeyNotFound."""
    row = session.get(KeyRow, key_id, with_for_update=hold)
    project = session.get(ProjectRow, row.project) if row is not None else None
    if row is None or project is None:
        raise KeyNotFound(key_id)
    role = ADMINISTRATOR if actor is None else standing(actor, project.owners)
    if role is None:
        raise KeyNotFound(key_id)
    return row, role


def _kept(session: Session, key_id: str, actor: Actor, *, hold: bool = True) -> tuple[KeyRow, str]:
    """A key in force that the caller answers for, or any for an administrator; nobody else changes it meanwhile."""
    row, role = _seen(session, key_id, actor, hold=hold)
    if role != ADMINISTRATOR and not bears(actor, row.vouched_by):
        raise Forbidden(f"{row.vouched_by} answers for the key {key_id}; you may revoke it, or make one of your own.")
    if row.revoked is not None:
        raise Conflict(f"The key {key_id} was revoked; make another one.", param="id")
    return row, role


def _check_minting(actor: Actor, project: ProjectRow, terms: KeyTerms, *, imported: bool) -> None:
    role = standing(actor, project.owners)
    if role is None:
        raise Forbidden(
            f"You may not make keys of {project.name}: ask an administrator, or one of its owners.", param="project"
        )
    if role == ADMINISTRATOR:
        return
    if imported:
        raise Forbidden("Only administrators import keys.", param="sha256")
    fresh = KeyTerms()
    check_fields(role, [f for f in terms.__struct_fields__ if getattr(terms, f) != getattr(fresh, f)])
    bounds = KeyTerms(models=tuple(project.models), networks=tuple(project.networks))
    for name, within in (("models", models_within), ("networks", networks_within)):
        own = getattr(terms, name)
        if own and not within(own, getattr(bounds, name)):
            raise Forbidden(
                f"The key's {name} reach beyond those of {project.name} ({', '.join(getattr(bounds, name))}).",
                param=name,
            )


def _check_narrower(wanted: KeyTerms, before: KeyTerms) -> None:
    """Raises Forbidden when a key would get wider: what somebody took from it only an administrator gives back."""
    sentence = "An owner may only narrow a key; its {} would reach further. An administrator may, or make a new key."
    if not models_within(wanted.models, before.models):
        raise Forbidden(sentence.format("models"), param="models")
    if not networks_within(wanted.networks, before.networks):
        raise Forbidden(sentence.format("networks"), param="networks")
    if before.expires is not None and (wanted.expires is None or wanted.expires > before.expires):
        raise Forbidden(sentence.format("end"), param="expires")


def _free(session: Session, sha256: str) -> str:
    """The hash of a secret from elsewhere. Raises Invalid or Conflict when it cannot be taken."""
    hashed = sha256.strip().lower()
    if not HASH.fullmatch(hashed):
        raise Invalid("`sha256` is the SHA-256 of the secret's UTF-8 bytes as 64 hexadecimal digits.", param="sha256")
    for column in (KeyRow.hash, OldSecretRow.hash, TokenRow.hash):
        if session.scalar(sa.select(column).where(column == hashed)) is not None:
            raise Conflict("That secret is in use here already; every key needs one of its own.", param="sha256")
    return hashed


def _living(row: KeyRow, project: ProjectRow, old: Iterable[OldSecretRow]) -> list[LivingSecret]:
    now = utc_now()
    ends: list[tuple[str, datetime | None]] = [(row.hash, row.expires)]
    ends += [(o.hash, min(o.until, row.expires or o.until)) for o in old]
    rights: dict[str, Any] = {
        "models": models_of_both(tuple(row.models), tuple(project.models)),
        "networks": networks_of_both(tuple(row.networks), tuple(project.networks)),
        "tags": tuple(dict.fromkeys([*project.tags, *row.tags])),
    }
    return [
        LivingSecret(hash=hashed, key_id=row.id, project=row.project, expires=expires, **rights)
        for hashed, expires in ends
        if expires is None or expires > now - _KEPT_AFTER
    ]


def _fill(row: KeyRow, terms: KeyTerms) -> None:
    row.note, row.expires = terms.note, terms.expires
    row.models, row.networks, row.tags = list(terms.models), list(terms.networks), list(terms.tags)


def _terms(row: KeyRow) -> KeyTerms:
    return KeyTerms(
        note=row.note,
        expires=row.expires,
        models=tuple(row.models),
        networks=tuple(row.networks),
        tags=tuple(row.tags),
    )


def _key_info(session: Session, row: KeyRow) -> KeyInfo:
    return _key_infos(session, [row])[0]


def _key_infos(session: Session, rows: list[KeyRow]) -> list[KeyInfo]:
    roles, now = vouchers(session), utc_now()
    projects = {row.name: row for row in session.scalars(sa.select(ProjectRow))}
    last = sa.select(OldSecretRow.key_id, sa.func.max(OldSecretRow.until)).where(OldSecretRow.until > now)
    until = {row[0]: row[1] for row in session.execute(last.group_by(OldSecretRow.key_id))}

    def state(row: KeyRow) -> str:
        if row.revoked is not None:
            return "revoked"
        if row.expires is not None and row.expires <= now:
            return "expired"
        return "in force" if vouches(row.vouched_by, projects[row.project], roles) else "suspended"

    return [
        KeyInfo(
            id=row.id,
            hash=row.hash,
            project=row.project,
            created=row.created,
            created_by=row.created_by,
            revoked=row.revoked,
            terms=_terms(row),
            vouched_by=row.vouched_by,
            state=state(row),
            old_until=until.get(row.id),
        )
        for row in rows
    ]
