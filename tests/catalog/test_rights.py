"""Who may change what: a user would find their model public, moved or gone by somebody else's hand."""

from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from ecotone.accounts import SYSTEM, Accounts, Actor
from ecotone.catalog import Model, ModelNotFound, ReservedId
from ecotone.catalog.models import RedirectRow
from ecotone.vocabulary import Forbidden, RepoType, Role

WILL = Actor("user", "will", Role.WRITE)
WANDA = Actor("user", "wanda", Role.WRITE)
RESERVED = "google-bert/bert-base-uncased"


@pytest.fixture
def users(house: SimpleNamespace) -> SimpleNamespace:
    accounts = Accounts(house.database, house.settings)
    for name in ("will", "wanda"):
        accounts.create_token(name, Role.WRITE)
    return house


def model(house: SimpleNamespace, name: str) -> Model:
    found: Model = house.catalog.model(name, viewer=SYSTEM)
    return found


def test_a_users_namespace_is_theirs_whatever_its_case_and_after_their_tokens_were_revoked(
    users: SimpleNamespace,
) -> None:
    users.catalog.create("Wanda/one", private=True, actor=WANDA)
    accounts = Accounts(users.database, users.settings)
    for token in accounts.tokens():
        accounts.revoke_token(token.id)
    one = model(users, "wanda/one")
    for change in (
        lambda: users.catalog.update(one, private=False, actor=WILL),
        lambda: users.catalog.delete(one, WILL),
        lambda: users.catalog.move(one, "Wanda/two", actor=WILL),
        lambda: users.catalog.create_tag(one, "v1", actor=WILL),
        lambda: users.catalog.create("wanda/new", private=True, actor=WILL),
        lambda: users.catalog.check_writer(one, WILL),
    ):
        with pytest.raises(Forbidden, match="ask them or an administrator"):
            change()
    assert users.catalog.update(one, private=False, actor=WANDA).private is False


def test_a_user_who_was_refused_is_told_whom_to_ask(users: SimpleNamespace) -> None:
    users.catalog.create("Wanda/one", private=True, actor=SYSTEM)
    users.catalog.create("team/first", private=False, actor=SYSTEM)
    users.catalog.create("team/two", private=True, actor=WILL)
    named = [users.catalog.owners(model(users, name)) for name in ("wanda/one", "team/two", RESERVED)]
    assert named == [("wanda",), ("will",), ()]
    with pytest.raises(Forbidden, match="use your own, 'wanda'"):
        users.catalog.create("absent/one", private=False, actor=WANDA)


def test_a_name_that_only_folds_onto_a_users_is_not_theirs(users: SimpleNamespace) -> None:
    """The Kelvin sign becomes a k in lower case."""
    accounts = Accounts(users.database, users.settings)
    accounts.create_token("kim", Role.WRITE)
    users.catalog.create("kim/one", private=True, actor=Actor("user", "kim", Role.WRITE))
    with pytest.raises(Forbidden):
        users.catalog.delete(model(users, "kim/one"), Actor("user", "\u212aim", Role.WRITE))


def test_in_a_common_namespace_all_write_and_the_author_decides_who_sees(users: SimpleNamespace) -> None:
    users.catalog.create("team/first", private=False, actor=SYSTEM)
    users.catalog.create("team/wandas", private=True, actor=WANDA)
    mine = model(users, "team/wandas")
    users.catalog.check_writer(mine, WILL)
    users.catalog.create_branch(mine, "dev", actor=WILL)
    for change in (
        lambda: users.catalog.update(mine, private=False, actor=WILL),
        lambda: users.catalog.update(mine, gated="auto", actor=WILL),
        lambda: users.catalog.move(mine, "team/wills", actor=WILL),
        lambda: users.catalog.delete(mine, WILL),
    ):
        with pytest.raises(Forbidden, match=r"made by 'wanda'.*Ask one of them"):
            change()
    moved = users.catalog.move(mine, "team/renamed", actor=WANDA)
    users.catalog.update(moved, private=False, actor=SYSTEM)
    users.catalog.delete(moved, WANDA)


def test_reserved_namespaces_are_the_administrators_for_every_change(users: SimpleNamespace) -> None:
    users.catalog.create(RESERVED, private=False, actor=SYSTEM)
    found = model(users, RESERVED)
    for change in (
        lambda: users.catalog.update(found, private=True, actor=WILL),
        lambda: users.catalog.delete(found, WILL),
        lambda: users.catalog.move(found, "google-bert/zz", actor=WILL),
        lambda: users.catalog.create_branch(found, "evil", actor=WILL),
        lambda: users.catalog.create_tag(found, "evil", actor=WILL),
        lambda: users.catalog.delete_tag(found, "evil", actor=WILL),
        lambda: users.catalog.create("google-bert/own", private=False, actor=WILL),
        lambda: users.catalog.check_writer(found, WILL),
    ):
        with pytest.raises(ReservedId, match="administrator"):
            change()


def test_no_redirect_leads_from_a_reserved_id_to_another(users: SimpleNamespace) -> None:
    users.catalog.create(RESERVED, private=False, actor=SYSTEM)
    moved = users.catalog.move(model(users, RESERVED), "google-bert/elsewhere", actor=SYSTEM)
    assert model(users, RESERVED).head is None, "only the starter catalogue's entry is left there"
    with users.database.writing() as session:  # as a version before this rule left it
        session.add(RedirectRow(repo_type="model", folded=RESERVED, model_key=moved.key))
    assert model(users, RESERVED).head is None
    with users.database.reading() as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(RedirectRow)) == 1
    users.catalog.create(RESERVED, repo_type=RepoType.DATASET, private=False, actor=SYSTEM)
    users.catalog.move(
        users.catalog.model(RESERVED, viewer=SYSTEM, repo_type=RepoType.DATASET), "google-bert/data", actor=SYSTEM
    )
    assert users.catalog.model(RESERVED, viewer=SYSTEM, repo_type=RepoType.DATASET).id == "google-bert/data"
    with pytest.raises(ModelNotFound):
        users.catalog.model("google-bert/none", viewer=SYSTEM)
