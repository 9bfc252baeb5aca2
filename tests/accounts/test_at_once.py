"""Two act in one moment: what one takes away the other does not give, on either database."""

import functools
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import SYSTEM, Accounts, Actor, Bounds, DeviceLogins, KeyTerms, devices, keys, services, users
from ecotone.accounts.models import ProjectRow, RefreshRow, TokenRow
from ecotone.database import Database
from ecotone.settings import Settings
from ecotone.vocabulary import Conflict, Mode, Purpose, Role
from tests.interleaving import overlapping, while_held


@pytest.fixture
def accounts(database: Database, tmp_path: Path) -> Accounts:
    return Accounts(database, Settings(data=tmp_path, admin_token="a-token-of-the-operator-0123"))


class Meanwhile:
    """Does something in a thread the first time that a function is about to be called, which waits for it a while."""

    def __init__(self, patch: pytest.MonkeyPatch, module: Any, name: str, act: Callable[[], object]) -> None:
        self.raised: Exception | None = None
        self._act = act
        self._thread = threading.Thread(target=self._run)
        before, begun = getattr(module, name), threading.Lock()

        def late(*args: Any) -> Any:
            if begun.acquire(blocking=False):
                self._thread.start()
                self._thread.join(1)
            return before(*args)

        patch.setattr(module, name, late)

    def _run(self) -> None:
        try:
            self._act()
        except Exception as error:
            self.raised = error

    def end(self) -> None:
        self._thread.join(90)
        assert not self._thread.is_alive()


def logged_in(accounts: Accounts, logins: DeviceLogins, token: str) -> str:
    """A device's code, which a user allowed with a token."""
    user = accounts.actor_for_token(token)
    assert user is not None
    begun = logins.begin("a terminal", client="192.0.2.1")
    logins.allow(begun.user_code, actor=user, role=Role.WRITE)
    return begun.device_code


def test_a_token_that_is_revoked_takes_that_along_which_a_device_gets_in_this_moment(
    accounts: Accounts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = DeviceLogins(database)
    info, token = accounts.create_token("ann", Role.WRITE)
    code = logged_in(accounts, logins, token)
    meanwhile = Meanwhile(monkeypatch, devices, "_issue", lambda: accounts.revoke_token(info.id))
    issued = logins.fetch(code)
    meanwhile.end()
    assert meanwhile.raised is None
    assert accounts.actor_for_token(issued.token) is None


def test_a_token_that_is_revoked_takes_that_along_with_which_a_device_renews_its_own_in_this_moment(
    accounts: Accounts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = DeviceLogins(database)
    info, token = accounts.create_token("ann", Role.WRITE)
    first = logins.fetch(logged_in(accounts, logins, token))
    meanwhile = Meanwhile(monkeypatch, devices, "_issue", lambda: accounts.revoke_token(info.id))
    renewed = logins.refresh(first.refresh_token)
    meanwhile.end()
    assert meanwhile.raised is None
    assert [accounts.actor_for_token(of.token) for of in (first, renewed)] == [None, None]


def test_two_administrators_cannot_end_each_others_last_token(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could make another."""
    one, two = (accounts.create_token(name, Role.ADMIN)[0] for name in ("ann", "bob"))
    meanwhile = Meanwhile(monkeypatch, services, "revoke", lambda: accounts.revoke_token(one.id))
    accounts.revoke_token(two.id)
    meanwhile.end()
    assert isinstance(meanwhile.raised, Conflict)
    assert [info.user for info in accounts.tokens() if info.revoked is None] == ["ann"]


def test_an_owner_gives_no_model_back_that_an_administrator_takes_from_a_key_in_this_moment(
    accounts: Accounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts.create_project(
        "shop", mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, actor=SYSTEM, bounds=Bounds(owners=("ann",))
    )
    ann = Actor("user", "ann", Role.WRITE)
    key = accounts.create_key("shop", actor=ann, terms=KeyTerms(models=("far/a", "far/b", "far/c")))[0]
    less = KeyTerms(models=("far/a",))
    meanwhile = Meanwhile(monkeypatch, keys, "_check_narrower", lambda: accounts.set_key(key.id, less, actor=SYSTEM))
    accounts.set_key(key.id, KeyTerms(models=("far/a", "far/b")), actor=ann)
    meanwhile.end()
    assert meanwhile.raised is None
    assert accounts.key(key.id).terms.models == ("far/a",)


def test_a_token_that_was_revoked_while_its_renewal_waited_is_not_renewed(
    accounts: Accounts, database: Database
) -> None:
    """The renewal has read the token before it waits for whoever revokes it."""
    logins = DeviceLogins(database)
    info, token = accounts.create_token("ann", Role.WRITE)
    first = logins.fetch(logged_in(accounts, logins, token))

    def revoke(session: Session) -> None:
        users.revoke(session, session.get_one(TokenRow, info.id))

    assert while_held(database, revoke, lambda: logins.refresh(first.refresh_token)) == "invalid_grant"
    assert [one.id for one in accounts.tokens("ann") if one.revoked is None] == []


def test_a_revoked_token_takes_that_along_which_is_renewed_as_it_came_of_a_renewal_itself(
    accounts: Accounts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second device's renewal begins when it was let in with the first one's old token, and holds that. Who revokes
    the new one finds the second device in the middle of its renewal, and what comes of that only afterwards."""
    logins = DeviceLogins(database)
    _, token = accounts.create_token("ann", Role.WRITE)
    first = logins.fetch(logged_in(accounts, logins, token))
    second = logins.fetch(logged_in(accounts, logins, first.token))
    held = devices._held
    told = list[Meanwhile]()

    def late(session: Session, token_id: str) -> TokenRow | None:
        monkeypatch.setattr(devices, "_held", held)
        read = session.get(TokenRow, token_id)
        if read is not None and not database.is_sqlite:  # which lets nobody write meanwhile
            renewed = logins.refresh(first.refresh_token)
            told.append(Meanwhile(monkeypatch, devices, "_issue", lambda: accounts.revoke_token(renewed.token_id)))
        return held(session, token_id)

    monkeypatch.setattr(devices, "_held", late)
    issued = logins.refresh(second.refresh_token)
    if database.is_sqlite:
        accounts.revoke_token(logins.refresh(first.refresh_token).token_id)
    for meanwhile in told:
        meanwhile.end()
        assert meanwhile.raised is None
    assert accounts.actor_for_token(issued.token) is None


def shop(accounts: Accounts) -> None:
    accounts.create_project("shop", mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, actor=SYSTEM)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("make a key", "project_not_found"),
        ("set it", "project_not_found"),
        ("revoke a key", "key_not_found"),
        ("take a key over", "key_not_found"),
    ],
)
def test_who_changes_a_project_or_its_keys_that_go_in_this_moment_is_told_that_they_are_gone(
    accounts: Accounts, database: Database, name: str, said: str
) -> None:
    shop(accounts)
    key = accounts.create_key("shop", actor=SYSTEM)[0].id
    acts: dict[str, Callable[[], object]] = {
        "make a key": lambda: accounts.create_key("shop", actor=SYSTEM),
        "set it": lambda: accounts.set_project("shop", mode=Mode.RUN, purpose=Purpose.COMMERCIAL, actor=SYSTEM),
        "revoke a key": lambda: accounts.revoke_key(key, actor=SYSTEM),
        "take a key over": lambda: accounts.adopt_key(key, actor=SYSTEM),
    }

    def remove(session: Session) -> None:
        session.execute(sa.delete(ProjectRow).where(ProjectRow.name == "shop"))

    assert while_held(database, remove, acts[name]) == said


def test_a_secret_that_is_imported_twice_at_once_is_refused_the_second_time(
    accounts: Accounts, database: Database
) -> None:
    shop(accounts)

    def take() -> object:
        return accounts.create_key("shop", actor=SYSTEM, sha256="ab" * 32)

    assert overlapping(database, take, take, behind="from old_secrets") == ["done", "conflict"]


def test_a_key_that_is_revoked_twice_at_once_ended_the_first_time(accounts: Accounts, database: Database) -> None:
    shop(accounts)
    key = accounts.create_key("shop", actor=SYSTEM)[0].id
    ended: list[Any] = []

    def revoke() -> None:
        ended.append(accounts.revoke_key(key, actor=SYSTEM).revoked)

    overlapping(database, revoke, revoke, behind="from projects")
    assert ended[0] == ended[1] == accounts.key(key).revoked


def test_a_renewal_that_sweeps_and_one_that_comes_too_late_do_not_wait_in_a_circle(
    accounts: Accounts, database: Database
) -> None:
    """The late one holds what the other would sweep away, and wants the token that both came of."""
    logins = DeviceLogins(database)
    _, token = accounts.create_token("ann", Role.WRITE)
    late, good = (logins.fetch(logged_in(accounts, logins, token)).refresh_token for _ in range(2))
    with database.writing() as session:
        session.get_one(RefreshRow, users.secret_hash(late)).expires -= timedelta(days=400)
    acts = (functools.partial(logins.refresh, late), functools.partial(logins.refresh, good))
    assert overlapping(database, *acts, behind="from refresh_tokens for update") == ["invalid_grant", "done"]


def test_two_servers_that_start_at_once_make_one_administrator(accounts: Accounts, database: Database) -> None:
    assert overlapping(database, *[accounts.ensure_admin] * 2, behind="from projects") == ["done", "done"]
    assert [info.user for info in accounts.tokens()] == ["admin"]


def test_no_more_logins_wait_that_begin_at_once_than_one_after_another(
    accounts: Accounts, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "MOST_WAITING_OF_ONE", 1)
    begin = functools.partial(DeviceLogins(database).begin, "a terminal", client="192.0.2.1")
    assert overlapping(database, begin, begin, behind="count from device_logins like") == ["done", "unavailable"]
