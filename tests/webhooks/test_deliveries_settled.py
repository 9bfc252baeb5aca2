"""A webhook is changed while a delivery of it is settled."""

import threading
from pathlib import Path

import sqlalchemy as sa

from ecotone.database import Database, utc_now
from ecotone.settings import Settings
from ecotone.webhooks import Targets, Webhooks
from ecotone.webhooks.models import DeliveryRow, WebhookRow


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
