"""Accounts: first start, secrets as hashes, projects that declare their use."""

import os
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa

from ecotone.accounts import HOUSE, SYSTEM, Accounts, Actor, KeyNotFound, ProjectExists, ProjectNotFound, secret_hash
from ecotone.accounts.models import KeyRow, TokenRow
from ecotone.database import Database
from ecotone.settings import Settings
from ecotone.vocabulary import Conflict, Invalid, Mode, Purpose, Role


@pytest.fixture
def accounts(database: Database, tmp_path: Path) -> Accounts:
    return Accounts(database, Settings(data=tmp_path))


def test_first_start_makes_one_token_in_a_private_file(accounts: Accounts, tmp_path: Path) -> None:
    file = accounts.ensure_admin()
    assert file == tmp_path / "admin-token"
    token = file.read_text().strip()
    assert token.startswith("ect_")
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    assert accounts.ensure_admin() == file
    assert file.read_text().strip() == token
    actor = accounts.actor_for_token(token)
    assert actor is not None
    assert actor.is_admin
    assert accounts.project(HOUSE).purpose is Purpose.INTERNAL_COMMERCIAL


def test_a_given_admin_token_is_stored_as_hash_alone(database: Database, tmp_path: Path) -> None:
    given = "a-token-of-the-operator-0123"
    accounts = Accounts(database, Settings(data=tmp_path, admin_token=given))
    assert accounts.ensure_admin() is None
    actor = accounts.actor_for_token(given)
    assert actor is not None
    assert actor.is_admin
    assert not (tmp_path / "admin-token").exists()
    with database.reading() as session:
        assert given not in str(session.execute(sa.select(TokenRow.__table__)).all())


def test_a_short_admin_token_is_refused(database: Database, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="at least 16"):
        Accounts(database, Settings(data=tmp_path, admin_token="short")).ensure_admin()


def test_a_key_belongs_to_its_project_until_revoked(accounts: Accounts, database: Database) -> None:
    accounts.create_project("shop", mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL, actor=SYSTEM)
    info, secret = accounts.create_key("shop", actor=SYSTEM)
    assert secret.startswith("eck_")
    assert info.hash == secret_hash(secret)
    actor = accounts.actor_for_token(secret)
    assert actor is not None
    assert (actor.kind, actor.project, actor.may_write) == ("key", "shop", False)
    with database.reading() as session:
        assert secret not in str(session.execute(sa.select(KeyRow.__table__)).all())
    accounts.revoke_key(info.id, actor=SYSTEM)
    assert accounts.actor_for_token(secret) is None
    with pytest.raises(KeyNotFound):
        accounts.revoke_key("nothing", actor=SYSTEM)


def test_a_project_declares_a_use(accounts: Accounts) -> None:
    accounts.create_project(
        "shop",
        mode=Mode.SERVE_API,
        purpose=Purpose.COMMERCIAL,
        actor=SYSTEM,
        users=500,
        revenue=1e6,
        territory=("DE", "EU"),
        variables={"modified": True},
    )
    use = accounts.project("shop").use()
    assert (use.mode, use.purpose) == (Mode.SERVE_API, Purpose.COMMERCIAL)
    assert use.variables == {
        "org.mau": 500,
        "product.mau": 500,
        "org.annual_revenue": 1e6,
        "territory": ["DE", "EU"],
        "modified": True,
    }


def test_bad_projects_are_refused_with_the_reason(accounts: Accounts) -> None:
    accounts.ensure_admin()
    make = {"mode": Mode.RUN, "purpose": Purpose.RESEARCH, "actor": SYSTEM}
    for name in ("", "Shop", "a/b", "-a", "x" * 65):
        with pytest.raises(Invalid, match="name"):
            accounts.create_project(name, **make)  # type: ignore[arg-type]
    with pytest.raises(Invalid, match="territory"):
        accounts.create_project("shop", territory=("Germany",), **make)  # type: ignore[arg-type]
    accounts.create_project("shop", **make)  # type: ignore[arg-type]
    with pytest.raises(ProjectExists):
        accounts.create_project("shop", **make)  # type: ignore[arg-type]
    with pytest.raises(Conflict):
        accounts.remove_project(HOUSE)
    accounts.remove_project("shop")
    with pytest.raises(ProjectNotFound):
        accounts.project("shop")


def test_only_a_project_of_an_administrator_may_call_private_models(accounts: Accounts) -> None:
    writer = Actor("user", "ann", Role.WRITE)
    made = accounts.create_project("mine", mode=Mode.RUN, purpose=Purpose.RESEARCH, actor=writer)
    assert not made.may_call_private


def test_tokens_of_users_carry_their_role(accounts: Accounts) -> None:
    info, secret = accounts.create_token("ann", Role.WRITE)
    actor = accounts.actor_for_token(secret)
    assert actor == Actor("user", "ann", Role.WRITE)
    accounts.revoke_token(info.id)
    assert accounts.actor_for_token(secret) is None
