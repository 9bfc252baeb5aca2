"""Usage as operators ask for it: kept up to date from the ledger, filtered, grouped, made anew."""

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ecotone.app.usage_rows import COUNTED, WHO, UsagePosition, UsageRow
from ecotone.database import Database, alone
from ecotone.ledger import Ledger
from ecotone.ledger.segments import segments
from ecotone.ledger.usage import USD, Moved, Piece, Place, Sums, Who, piece, summed
from ecotone.vocabulary import Conflict, Invalid

log = logging.getLogger("ecotone.app")

MOST_ROWS = 10_000
GROUPS = ("project", "key", "user", "tag", "route", "backend", "model", "face", "day", "hour")
FILTERS = ("project", "key", "user", "tag", "route", "backend", "model", "face")
_MICRO = 10**6
_PIECE_BYTES = 256 * 1024
_PIECES = 64
_BATCH = 500
_REST_SECONDS = 0.005


class _Overtaken(Exception):
    """Another process took the same piece first."""


class Usage:
    """The tables of usage of one installation.

    Args:
        ledger: from which they are made.
    """

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger
        self._turn = threading.Lock()
        self._ending = threading.Event()

    def end(self) -> None:
        """Take up no more: the process ends, and the next one goes on from there."""
        self._ending.set()

    # -- projecting --------------------------------------------------------------------------------------------------
    def project(self, *, rest: float = _REST_SECONDS) -> int:
        """Take up what the chains have grown by; returns how many records that were.

        Args:
            rest: seconds to leave to others after each piece.
        """
        with self._turn:
            return self._project(rest)

    def _project(self, rest: float) -> int:
        taken = 0
        places = self._places()
        for chain in self._ledger.chains():
            files = segments(chain)
            for number, segment in enumerate(files):
                if self._ending.is_set():
                    return taken
                place = places.get((chain.name, int(segment.stem)), Place())
                try:
                    if number < len(files) - 1 and place.offset == segment.stat().st_size:
                        continue
                    taken += self._take(chain.name, segment, place, rest)
                except FileNotFoundError:  # removed meanwhile, after all of it was taken
                    continue
                except Moved as where:
                    log.warning("usage is made anew from the ledger: %s has other records than before", where)
                    return self._rebuild()
                except _Overtaken:
                    break  # the other process goes on with this chain
        return taken

    def _take(self, writer: str, segment: Path, place: Place, rest: float) -> int:
        """Take up what a segment has grown by; what it grows by meanwhile is for the next time, as load may not end.

        It is read piece by piece and written many pieces at a time, as rows of the same hour and project come again in
        each, but not many rows: others wait to write.
        """
        taken, end = 0, segment.stat().st_size
        while (found := piece(segment, place, _PIECE_BYTES)) is not None:
            begin, records, sums = found.begin, found.records, found.sums
            for _ in range(_PIECES - 1):
                if found.end.offset >= end or len(sums) >= _BATCH:
                    break
                time.sleep(rest)
                more = piece(segment, found.end, _PIECE_BYTES)
                if more is None:
                    break
                found = more
                records += found.records
                for who, added in found.sums.items():
                    sums.setdefault(who, Sums()).add(added)
            with self._writing() as session:
                self._step(session, writer, int(segment.stem), Piece(begin, found.end, records, sums))
                self._add(session, sums)
            place = found.end
            taken += records
            time.sleep(rest)
            if place.offset >= end or self._ending.is_set():
                break
        return taken

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Session]:
        """One server after another: their pieces have rows in common, in another order, and would wait in a circle."""
        with self._database.writing() as session:
            alone(session, "usage")
            yield session

    def _places(self) -> dict[tuple[str, int], Place]:
        with self._database.reading() as session:
            rows = session.execute(
                sa.select(UsagePosition.writer, UsagePosition.segment, UsagePosition.offset, UsagePosition.hash)
            ).all()
        return {(writer, segment): Place(offset=offset, hash=hashed) for writer, segment, offset, hashed in rows}

    def _add(self, session: Session, sums: Mapping[Who, Sums], *, retired: bool = False, sign: int = 1) -> None:
        rows = [_row(who, found, retired=retired, sign=sign) for who, found in sums.items()]
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        table = UsageRow.__table__
        statement: Any = insert(table)  # type: ignore[arg-type]
        grown = {name: table.c[name] + statement.excluded[name] for name in COUNTED}
        adding = statement.on_conflict_do_update(index_elements=[table.c.id], set_=grown)
        for begin in range(0, len(rows), _BATCH):
            session.execute(adding, rows[begin : begin + _BATCH])

    def _step(self, session: Session, writer: str, segment: int, found: Piece) -> None:
        """Note how far a segment was taken. Raises _Overtaken when it was taken further meanwhile."""
        if found.begin.offset:
            done = session.execute(
                sa.update(UsagePosition)
                .where(
                    UsagePosition.writer == writer,
                    UsagePosition.segment == segment,
                    UsagePosition.offset == found.begin.offset,
                )
                .values(offset=found.end.offset, hash=found.end.hash, records=UsagePosition.records + found.records)
            )
            if done.rowcount != 1:  # type: ignore[attr-defined]
                raise _Overtaken
            return
        session.add(
            UsagePosition(
                writer=writer,
                segment=segment,
                offset=found.end.offset,
                hash=found.end.hash,
                records=found.records,
                retired=False,
            )
        )
        try:
            session.flush()
        except IntegrityError:
            raise _Overtaken from None

    def rebuild(self) -> dict[str, Any]:
        """Make the tables anew from the ledger; returns how many records were read and what the sums are."""
        with self._turn:
            taken = self._rebuild()
        return {"records": taken, **self.total()}

    def _rebuild(self) -> int:
        with self._writing() as session:
            session.execute(sa.delete(UsageRow).where(UsageRow.retired.is_(False)))
            session.execute(sa.delete(UsagePosition).where(UsagePosition.retired.is_(False)))
        return self._project(0.0)

    def set_apart(self, segment: Path) -> None:
        """Keep the sums of a closed segment apart, before it is removed.

        Raises:
            Conflict: while it is not taken to its end.
        """
        writer, number = segment.parent.name, int(segment.stem)
        with self._turn:
            self._project(0.0)
            sums = _whole(segment)
            with self._writing() as session:
                row = session.get(UsagePosition, (writer, number))
                if row is not None and row.retired:
                    return
                if row is None or row.offset != segment.stat().st_size:
                    raise Conflict(f"The usage in {writer}/{segment.name} is not counted yet; try again.")
                self._add(session, sums, sign=-1)
                self._add(session, sums, retired=True)
                session.execute(sa.delete(UsageRow).where(UsageRow.retired.is_(False), UsageRow.requests == 0))
                row.retired = True

    # -- asking ------------------------------------------------------------------------------------------------------
    def rows(
        self,
        group: Iterable[str] = ("project", "model"),
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        **only: str,
    ) -> list[dict[str, Any]]:
        """Sums by what is asked for, most requests first; at most 10,000.

        Args:
            group: among `GROUPS`. A request with several tags counts for each of them.
            since: from the hour of this moment on.
            until: up to and without the hour of this moment; the hour counts when the moment is within it.
            only: values for names among `FILTERS`.

        Raises:
            Invalid: for another name.
        """
        names = list(dict.fromkeys(group))
        for name in names:
            if name not in GROUPS:
                raise Invalid(f"{name!r} is no group; {', '.join(GROUPS)} are.", param="group")
        columns = {name: _column(name) for name in names}
        query = sa.select(*(c.label(n) for n, c in columns.items()), *_SUMS).where(*_conditions(since, until, only))
        query = query.group_by(*columns.values()).order_by(sa.desc("requests"), *columns.values()).limit(MOST_ROWS + 1)
        with self._database.reading() as session:
            found = [_shown(names, row._mapping) for row in session.execute(query)]
        return (_by_tag(found, names, only.get("tag")) if "tag" in names else found)[:MOST_ROWS]

    def total(self, *, since: datetime | None = None, until: datetime | None = None, **only: str) -> dict[str, Any]:
        """The sums of everything that the filters leave."""
        query = sa.select(*_SUMS).where(*_conditions(since, until, only))
        with self._database.reading() as session:
            return _shown([], session.execute(query).one()._mapping)

    def costs(self, since: datetime) -> list[tuple[Who, int]]:
        """Who spent how much in each hour from one on, after all that is in the ledger was taken up."""
        self.project(rest=0.0)
        by = (UsageRow.hour, UsageRow.key, UsageRow.project, UsageRow.backend, UsageRow.tags, UsageRow.user)
        query = (
            sa.select(*by, sa.func.sum(UsageRow.cost_micros), sa.func.sum(UsageRow.cost_rest))
            .where(*_conditions(since, None, {}))
            .group_by(*by)
        )
        with self._database.reading() as session:
            return [
                (Who(hour, project, key, user, tags, "", backend, "", ""), int(micros) * _MICRO + int(rest))
                for hour, key, project, backend, tags, user, micros, rest in session.execute(query)
            ]

    def spent(self, since: datetime) -> dict[str, int]:
        """What each scope has spent since the beginning of an hour, in 10^-12 USD, after all that is in the ledger was
        taken up: `key:ID`, `project:NAME`, `backend:NAME`, `tag:NAME`, `user:HASH`, `organisation`.

        Requests under way are not in it, nor are those whose price is not known.
        """
        self.project(rest=0.0)
        found: dict[str, int] = {"organisation": 0}
        by = (UsageRow.key, UsageRow.project, UsageRow.backend, UsageRow.tags, UsageRow.user)
        query = (
            sa.select(*by, sa.func.sum(UsageRow.cost_micros), sa.func.sum(UsageRow.cost_rest))
            .where(*_conditions(since, None, {}))
            .group_by(*by)
            .having(sa.or_(sa.func.sum(UsageRow.cost_micros) != 0, sa.func.sum(UsageRow.cost_rest) != 0))
        )
        with self._database.reading() as session:
            for key, project, backend, tags, user, micros, rest in session.execute(query):
                cost = int(micros) * _MICRO + int(rest)
                scopes = [f"key:{key}", f"project:{project}", f"backend:{backend}", f"user:{user}"]
                scopes = [scope for scope in scopes if not scope.endswith(":")]
                for scope in (*scopes, *(f"tag:{tag}" for tag in tags.split(",") if tag), "organisation"):
                    found[scope] = found.get(scope, 0) + cost
        return found


_SUMS = tuple(sa.func.coalesce(sa.func.sum(getattr(UsageRow, name)), 0).label(name) for name in COUNTED)


def _column(name: str) -> Any:
    if name == "tag":
        return UsageRow.tags
    return sa.func.substr(UsageRow.hour, 1, 10) if name == "day" else getattr(UsageRow, name)


def _conditions(since: datetime | None, until: datetime | None, only: Mapping[str, str]) -> list[Any]:
    found: list[Any] = []
    if since is not None:
        found.append(UsageRow.hour >= since.astimezone(UTC).strftime("%Y-%m-%dT%H"))
    if until is not None:
        within = until.minute or until.second or until.microsecond
        text = until.astimezone(UTC).strftime("%Y-%m-%dT%H")
        found.append(UsageRow.hour <= text if within else UsageRow.hour < text)
    for name, value in only.items():
        if name not in FILTERS:
            raise Invalid(f"{name!r} is no filter; {', '.join(FILTERS)} are.", param=name)
        if name == "tag":
            found.append(UsageRow.tags.contains(f",{value.replace(',', ' ')},", autoescape=True))
        else:
            found.append(getattr(UsageRow, name) == value)
    return found


def _shown(names: list[str], row: Mapping[Any, Any]) -> dict[str, Any]:
    """A row for people and programs; money as text, for sums beyond what JSON's readers hold exactly."""
    sums = {name: int(row[name]) for name in COUNTED}
    cost = sums.pop("cost_micros") * _MICRO + sums.pop("cost_rest")
    estimated = sums.pop("estimated_micros") * _MICRO + sums.pop("estimated_rest")
    told = {name: row[name] for name in names}
    return told | sums | {"cost": str(cost), "cost_usd": usd(cost), "estimated_cost": str(estimated)}


def usd(cost: int) -> str:
    """10^-12 USD as a decimal number of USD, exactly."""
    whole, rest = divmod(abs(cost), USD)
    text = f"{whole}.{rest:012d}".rstrip("0").rstrip(".")
    return f"-{text}" if cost < 0 else text


def _by_tag(rows: list[dict[str, Any]], names: list[str], wanted: str | None) -> list[dict[str, Any]]:
    """Rows of sets of tags as rows of tags."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        tags = [tag for tag in row["tag"].split(",") if tag] or [""]
        for tag in tags if wanted is None else [t for t in tags if t == wanted.replace(",", " ")]:
            one = row | {"tag": tag}
            key = tuple(str(one[name]) for name in names)
            known = found.get(key)
            found[key] = one if known is None else _added(known, one, names)
    return sorted(found.values(), key=lambda r: -r["requests"])


def _added(one: dict[str, Any], other: dict[str, Any], names: list[str]) -> dict[str, Any]:
    sums = {k: one[k] + other[k] for k in one if k not in names and isinstance(one[k], int)}
    cost = int(one["cost"]) + int(other["cost"])
    estimated = int(one["estimated_cost"]) + int(other["estimated_cost"])
    return (
        {n: one[n] for n in names}
        | sums
        | {
            "cost": str(cost),
            "cost_usd": usd(cost),
            "estimated_cost": str(estimated),
        }
    )


def _row(who: Who, sums: Sums, *, retired: bool, sign: int) -> dict[str, Any]:
    """A row of the table. Money is parted towards zero, so that what is added can be taken away again."""
    told: dict[str, Any] = {name: sign * value for name, value in msgspec.structs.asdict(sums).items()}
    for name, of in (("cost", "cost"), ("estimated", "estimated_cost")):
        micros, rest = divmod(abs(told[of]), _MICRO)
        towards = -1 if told.pop(of) < 0 else 1
        told |= {f"{name}_micros": towards * micros, f"{name}_rest": towards * rest}
    key = "\x1f".join((*who, str(retired)))
    told |= dict(zip(WHO, who, strict=True))
    return told | {"id": hashlib.sha256(key.encode()).hexdigest()[:32], "retired": retired}


def _whole(segment: Path) -> dict[Who, Sums]:
    with segment.open("rb") as file:
        return summed(file)
