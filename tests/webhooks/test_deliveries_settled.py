"""A webhook is changed or deleted while something is told to it, or a delivery of it is settled."""

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from ecotone.accounts import SYSTEM, Accounts, Actor
from ecotone.database import Database, utc_now
from ecotone.settings import Settings
from ecotone.vocabulary import Role
from ecotone.webhooks import Targets, Watched, Webhooks
from ecotone.webhooks import services as webhooks_module
from ecotone.webhooks.models import DeliveryRow, WebhookRow
from tests.interleaving import overlapping, while_held

ANN = Actor("user", "ann", Role.WRITE)


def test_a_webhook_that_is_disabled_and_a_delivery_that_is_settled_wait_for_each_other_in_one_order(
    database: Database, tmp_path: Path
) -> None:
    """Else one of both fails, and what was delivered is delivered once more."""
    webhooks = Webhooks(database, Settings(data=tmp_path), Targets())
    now = utc_now()
    with database.writing() as session:
        hook = WebhookRow(
            id="0" * 24, user="ann", url="https://ci.example.com", domains=["repo"], disabled=False, created=now
        )
        session.add(hook)
        session.flush()
        about = {"event": "repo update", "subject": "ann/m", "model_key": 1, "private": False, "body": "{}"}
        session.add(DeliveryRow(id="1" * 32, webhook_key=hook.key, created=now, state="waiting", due=now, **about))
    (parcel,), _ = webhooks.due()
    failed: list[Exception] = []

    def settle() -> None:
        try:
            webhooks.settle(parcel, status=200, problem="")
        except Exception as error:
            failed.append(error)

    settling = threading.Thread(target=settle)
    with database.writing() as session:
        session.get_one(WebhookRow, hook.key).disabled = True
        session.flush()
        settling.start()
        settling.join(1)
        session.execute(sa.update(DeliveryRow).where(DeliveryRow.webhook_key == hook.key).values(state="given_up"))
    settling.join(90)
    assert not settling.is_alive() and not failed
    with database.reading() as session:
        row = session.scalars(sa.select(DeliveryRow)).one()
    assert (row.state, row.attempts) == ("delivered", 1)


@pytest.fixture
def hooked(house: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A house with a webhook of ann's on everything in `team`."""
    monkeypatch.setattr(Targets, "check_url", lambda *_: None)
    webhooks = Webhooks(house.database, house.settings, Targets())
    Accounts(house.database, house.settings).create_token("ann", Role.WRITE)
    made = webhooks.create("https://ci.example.com", [Watched("org", "team")], ["repo"], actor=ANN)
    house.catalog.events.listen(webhooks.enqueue)
    return SimpleNamespace(house=house, database=house.database, webhooks=webhooks, id=made.id)


def delete(session: Session) -> None:
    session.execute(sa.delete(WebhookRow))


def test_what_is_told_to_a_webhook_that_is_deleted_in_this_moment_succeeds(hooked: SimpleNamespace) -> None:
    def change() -> None:
        hooked.house.catalog.create("team/one", private=False, actor=SYSTEM)

    assert while_held(hooked.database, delete, change) == "done"


@pytest.mark.parametrize("act", ["update", "set_disabled"])
def test_who_changes_a_webhook_that_is_deleted_in_this_moment_is_told_that_it_is_gone(
    hooked: SimpleNamespace, act: str
) -> None:
    webhooks = hooked.webhooks
    acts: dict[str, Callable[[], object]] = {
        "update": lambda: webhooks.update(hooked.id, actor=ANN, url="https://new.example.com"),
        "set_disabled": lambda: webhooks.set_disabled(hooked.id, True, actor=ANN),
    }
    assert while_held(hooked.database, delete, acts[act]) == "webhook_not_found"


def test_a_webhook_that_is_deleted_twice_at_once_is_gone_the_second_time(hooked: SimpleNamespace) -> None:
    remove = functools.partial(hooked.webhooks.delete, hooked.id, actor=ANN)
    assert overlapping(hooked.database, remove, remove, behind="from webhooks") == ["done", "webhook_not_found"]


def test_a_delivery_that_is_given_up_while_its_webhook_is_deleted_is_not_made(hooked: SimpleNamespace) -> None:
    hooked.house.catalog.create("team/one", private=False, actor=SYSTEM)
    (parcel,), _ = hooked.webhooks.due()
    with hooked.database.writing() as session:
        session.execute(sa.update(WebhookRow).values(disabled=True))
    made: list[bool] = []
    assert while_held(hooked.database, delete, lambda: made.append(hooked.webhooks.may_send(parcel))) == "done"
    assert made == [False]


def test_what_is_left_out_at_once_is_counted_each_time(
    hooked: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks_module, "MOST_A_DAY", 0)
    create = functools.partial(hooked.house.catalog.create, private=False, actor=SYSTEM)
    acts = (functools.partial(create, "team/one"), functools.partial(create, "team/two"))
    assert overlapping(hooked.database, *acts, behind="from webhooks") == ["done", "done"]
    assert hooked.webhooks.webhook(hooked.id, actor=ANN).left_out == 2


def test_a_user_makes_no_more_webhooks_at_once_than_one_after_another(
    hooked: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks_module, "MOST_OF_A_USER", 2)
    watched = [Watched("org", "team")]
    create = functools.partial(hooked.webhooks.create, "https://ci.example.com", watched, ["repo"], actor=ANN)
    assert overlapping(hooked.database, create, create, behind="count from webhooks") == ["done", "conflict"]


def test_old_deliveries_are_dropped_while_their_webhook_is_deleted(hooked: SimpleNamespace) -> None:
    """With a webhook go its deliveries in an order of their own."""
    for name in ("team/one", "team/two"):
        hooked.house.catalog.create(name, private=False, actor=SYSTEM)
    with hooked.database.writing() as session:
        long_ago = utc_now() - 2 * webhooks_module.KEPT
        session.execute(sa.update(DeliveryRow).values(state="delivered", created=long_ago))
        first, second = session.scalars(sa.select(DeliveryRow.key).order_by(DeliveryRow.key))

    def delete_all() -> None:
        with hooked.database.writing() as session:
            for key in (second, first):
                session.execute(sa.delete(DeliveryRow).where(DeliveryRow.key == key))

    acts = (delete_all, hooked.webhooks.forget_old)
    assert overlapping(hooked.database, *acts, behind="delete from webhook_deliveries") == ["done", "done"]
    hooked.webhooks.forget_old()
    assert hooked.webhooks.deliveries(hooked.id, actor=ANN) == []


def test_a_delivery_that_another_server_makes_in_this_moment_is_not_given_up(hooked: SimpleNamespace) -> None:
    hooked.house.catalog.create("team/one", private=False, actor=SYSTEM)
    (parcel,), _ = hooked.webhooks.due()
    with hooked.database.writing() as session:
        session.execute(sa.update(WebhookRow).values(disabled=True))

    def delivered(session: Session) -> None:
        session.execute(sa.update(DeliveryRow).values(state="delivered"))

    assert while_held(hooked.database, delivered, lambda: hooked.webhooks.may_send(parcel)) == "done"
    with hooked.database.reading() as session:
        assert session.scalars(sa.select(DeliveryRow.state)).all() == ["delivered"]
