"""Login of devices: a token for who was allowed, as much as they may give, and nothing for whoever guesses or waits."""

import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ecotone.accounts import Actor, devices
from ecotone.accounts.models import DeviceLoginRow, RefreshRow, TokenRow
from ecotone.database import utc_now
from ecotone.vocabulary import Forbidden, Invalid, NotFound, Role

GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
def begin(server: SimpleNamespace) -> Callable[[], dict[str, Any]]:
    def begun() -> dict[str, Any]:
        answer = server.http.post("/oauth/device", data={"client_id": "x"}, headers={"user-agent": "hf/2; y"})
        assert answer.status_code == 200 and answer.headers["cache-control"] == "no-store"
        found: dict[str, Any] = answer.json()
        return found

    return begun


@pytest.fixture(autouse=True)
def polled_at_will(monkeypatch: pytest.MonkeyPatch, server: SimpleNamespace) -> None:
    monkeypatch.setattr(devices, "INTERVAL_SECONDS", 0)
    server.services.devices._wrong.clear()


def fetch(server: SimpleNamespace, code: str) -> httpx.Response:
    found: httpx.Response = server.http.post("/oauth/token", data={"grant_type": GRANT, "device_code": code})
    return found


def will(server: SimpleNamespace) -> Actor:
    found: Actor = server.services.accounts.actor_for_token("ect_writer")
    return found


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def test_the_token_is_an_ordinary_one_of_the_user_that_expires_and_is_fetched_once(
    server: SimpleNamespace, begin: Any
) -> None:
    told = begin()
    assert told["verification_uri"] == server.url + "/login/device" and told["expires_in"] == 900
    assert told["verification_uri_complete"].endswith("?user_code=" + told["user_code"])
    waiting = fetch(server, told["device_code"])
    assert (waiting.status_code, waiting.json()["error"]) == (400, "authorization_pending")
    shown = server.services.devices.waiting(told["user_code"].lower().replace("-", " "), actor=will(server))
    assert shown.asked_from == "hf/2, 127.0.0.1"
    server.services.devices.allow(told["user_code"], actor=will(server), role=Role.READ)
    made = fetch(server, told["device_code"]).json()
    assert made["access_token"].startswith("ect_") and made["token_type"] == "bearer"
    assert abs(made["expires_in"] - 30 * 24 * 3600) < 600
    me = server.http.get("/api/whoami-v2", headers=bearer(made["access_token"])).json()
    assert me["name"] == "will" and me["auth"]["accessToken"]["role"] == "read"
    assert abs(time.time() - _seconds(me["auth"]["accessToken"]["createdAt"])) < 600
    listed = [t for t in server.services.accounts.tokens() if t.user == "will" and t.expires is not None]
    assert listed[-1].role is Role.READ
    assert fetch(server, told["device_code"]).json()["error"] == "invalid_grant"
    with server.services.database.reading() as session:
        kept = [
            str(vars(row))
            for table in (DeviceLoginRow, RefreshRow, TokenRow)
            for row in session.scalars(sa.select(table))
        ]
    assert not any(made[name] in row for row in kept for name in ("access_token", "refresh_token"))
    assert not any(told["device_code"] in row for row in kept)
    with server.services.database.writing() as session:
        session.execute(sa.update(TokenRow).where(TokenRow.id == listed[-1].id).values(expires=utc_now()))
    assert server.services.accounts.actor_for_token(made["access_token"]) is None
    assert server.services.accounts.actor_of(listed[-1].id) is None


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


def test_who_allows_gives_no_more_than_they_have_nor_for_longer(server: SimpleNamespace, begin: Any) -> None:
    service, accounts = server.services.devices, server.services.accounts
    told = begin()
    with pytest.raises(Invalid):
        service.allow(told["user_code"], actor=will(server), role=Role.ADMIN)
    with pytest.raises(Invalid):
        service.allow(told["user_code"], actor=accounts.actor_for_token("ect_reader"), role=Role.WRITE)
    info, secret = accounts.create_token("guest", Role.WRITE)
    soon = utc_now() + timedelta(hours=1)
    with server.services.database.writing() as session:
        session.execute(sa.update(TokenRow).where(TokenRow.id == info.id).values(expires=soon))
    service.allow(told["user_code"], actor=accounts.actor_for_token(secret), role=Role.WRITE)
    made = fetch(server, told["device_code"]).json()
    assert made["expires_in"] <= 3600
    renewed = server.http.post(
        "/oauth/token", data={"grant_type": "refresh_token", "refresh_token": made["refresh_token"]}
    ).json()
    assert renewed["expires_in"] <= 3600, "renewing does not outlast the token it was allowed with"
    again = begin()
    service.allow(again["user_code"], actor=accounts.actor_for_token(secret), role=Role.READ)
    accounts.revoke_token(info.id)
    assert fetch(server, again["device_code"]).json()["error"] == "access_denied"


def test_revoking_a_stolen_token_ends_what_the_thief_let_in_with_it(server: SimpleNamespace, begin: Any) -> None:
    service, accounts = server.services.devices, server.services.accounts
    info, stolen = accounts.create_token("guest", Role.WRITE)
    _, other = accounts.create_token("guest", Role.WRITE)
    made = [{"access_token": stolen}]
    for _ in range(2):  # a device, and one that was let in with its token
        told = begin()
        allowing = accounts.actor_for_token(made[-1]["access_token"])
        service.allow(told["user_code"], actor=allowing, role=Role.WRITE)
        made.append(fetch(server, told["device_code"]).json())
    renewing = {"grant_type": "refresh_token", "refresh_token": made[1]["refresh_token"]}
    made.append(server.http.post("/oauth/token", data=renewing).json())
    with server.services.database.writing() as session:  # as it is a minute later: what was renewed has ended by itself
        old = accounts.actor_for_token(made[1]["access_token"]).token
        session.execute(sa.update(TokenRow).where(TokenRow.id == old).values(expires=utc_now()))
    accounts.revoke_token(info.id)
    assert [accounts.actor_for_token(one["access_token"]) for one in made] == [None] * 4
    for one in made[2:]:
        again = {"grant_type": "refresh_token", "refresh_token": one["refresh_token"]}
        assert server.http.post("/oauth/token", data=again).json()["error"] == "invalid_grant"
    assert accounts.actor_for_token(other) is not None


def test_refused_expired_hasty_and_unknown_devices_get_oauths_own_words(
    server: SimpleNamespace, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = begin()
    server.services.devices.deny(refused["user_code"], actor=will(server))
    assert fetch(server, refused["device_code"]).json()["error"] == "access_denied"
    old = begin()
    with server.services.database.writing() as session:
        session.execute(
            sa.update(DeviceLoginRow).where(DeviceLoginRow.user_code == old["user_code"]).values(expires=utc_now())
        )
    assert fetch(server, old["device_code"]).json()["error"] == "expired_token"
    with pytest.raises(NotFound):
        server.services.devices.allow(old["user_code"], actor=will(server), role=Role.READ)
    monkeypatch.setattr(devices, "INTERVAL_SECONDS", 50)  # longer than a busy machine takes for an answer
    hasty = begin()
    assert hasty["interval"] == 50
    words = [fetch(server, hasty["device_code"]).json()["error"] for _ in range(3)]
    assert words == ["authorization_pending", "slow_down", "slow_down"]
    with server.services.database.reading() as session:
        kept = session.scalars(sa.select(DeviceLoginRow).where(DeviceLoginRow.user_code == hasty["user_code"])).one()
    assert kept.interval == 60
    for data, word in (
        ({"grant_type": GRANT, "device_code": "nonsense"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "nonsense"}, "invalid_grant"),
        ({"grant_type": "password", "username": "a"}, "unsupported_grant_type"),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange"}, "unsupported_grant_type"),
        ({}, "unsupported_grant_type"),
    ):
        answer = server.http.post("/oauth/token", data=data)
        assert (answer.status_code, answer.json()["error"]) == (400, word)
    assert server.http.post("/oauth/device", data={}).json()["error"] == "invalid_request"
    assert server.http.post("/oauth/device", content=b"x" * 100_000).status_code == 400
    assert server.http.post("/oauth/token", json={"grant_type": "x"}).json()["error"] == "unsupported_grant_type"


def test_codes_cannot_be_guessed_for_long_nor_logins_piled_up(
    server: SimpleNamespace, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = begin()
    for _ in range(devices.MOST_WRONG_CODES):
        with pytest.raises(NotFound):
            server.services.devices.waiting("BBBB-BBBB", actor=will(server))
    with pytest.raises(Forbidden, match="Too many wrong codes"):
        server.services.devices.waiting(told["user_code"], actor=will(server))
    admin = server.services.accounts.actor_for_token("ect_admin")
    assert server.services.devices.waiting(told["user_code"], actor=admin).user_code == told["user_code"]
    monkeypatch.setattr(devices, "MOST_WAITING_OF_ONE", 1)
    full = server.http.post("/oauth/device", data={"client_id": "x"})
    assert (full.status_code, full.headers["retry-after"]) == (503, "60")


def test_a_refresh_token_counts_once_and_ends_with_its_token(server: SimpleNamespace, begin: Any) -> None:
    def renewed(refresh: str) -> httpx.Response:
        found: httpx.Response = server.http.post(
            "/oauth/token", data={"grant_type": "refresh_token", "refresh_token": refresh, "client_id": "x"}
        )
        return found

    told = begin()
    server.services.devices.allow(told["user_code"], actor=will(server), role=Role.WRITE)
    first = fetch(server, told["device_code"]).json()
    second = renewed(first["refresh_token"]).json()
    assert second["access_token"] != first["access_token"] and second["scope"] == "write"
    assert server.services.accounts.actor_for_token(first["access_token"]) is not None, "for calls on their way"
    assert renewed(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert server.services.accounts.actor_for_token(second["access_token"]) is not None, "two processes at once"
    third = renewed(second["refresh_token"]).json()
    with server.services.database.writing() as session:
        session.execute(sa.update(RefreshRow).values(used=RefreshRow.used))
        for row in session.scalars(sa.select(RefreshRow).where(RefreshRow.used.is_not(None))):
            row.used = utc_now() - timedelta(minutes=5)
    assert renewed(first["refresh_token"]).json()["error"] == "invalid_grant"
    for made in (second, third):
        assert server.services.accounts.actor_for_token(made["access_token"]) is None, "somebody stole one: all end"
    assert renewed(third["refresh_token"]).json()["error"] == "invalid_grant"
    again = begin()
    server.services.devices.allow(again["user_code"], actor=will(server), role=Role.WRITE)
    made = fetch(server, again["device_code"]).json()
    me = server.services.accounts.actor_for_token(made["access_token"])
    server.services.accounts.revoke_token(me.token)
    assert renewed(made["refresh_token"]).json()["error"] == "invalid_grant"
