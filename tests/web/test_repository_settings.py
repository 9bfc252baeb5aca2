"""A repository's settings in the browser: its author settles who sees it and what becomes of it; nobody else does."""

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.catalog import ModelNotFound
from ecotone.vocabulary import RepoType, Role
from tests.web.test_sessions import log_in
from tests.web.test_writing import hidden, send

WENDY = Actor("user", "wendy", Role.WRITE)
KINDS = ((RepoType.MODEL, ""), (RepoType.DATASET, "datasets/"), (RepoType.SPACE, "spaces/"))


@pytest.fixture
def wendy(server: SimpleNamespace) -> Iterator[httpx.Client]:
    client, _ = log_in(server, server.services.accounts.create_token("wendy", Role.WRITE)[1])
    yield client
    client.close()


@pytest.fixture
def other(server: SimpleNamespace) -> Iterator[httpx.Client]:
    client, _ = log_in(server, server.services.accounts.create_token("otto", Role.WRITE)[1])
    yield client
    client.close()


def made(server: SimpleNamespace, name: str, kind: RepoType = RepoType.MODEL) -> Any:
    return server.services.catalog.create(name, repo_type=kind, private=False, actor=SYSTEM)


def found(server: SimpleNamespace, name: str, kind: RepoType = RepoType.MODEL) -> Any:
    return server.services.catalog.model(name, viewer=SYSTEM, repo_type=kind)


def settle(client: httpx.Client, path: str, **fields: str) -> httpx.Response:
    token = hidden(client, f"{path}/settings")["form_token"]
    return send(client, f"{path}/settings", {"form_token": token, **fields})


@pytest.mark.parametrize(("kind", "start"), KINDS)
def test_an_author_settles_visibility_gate_name_and_end(
    server: SimpleNamespace, wendy: httpx.Client, kind: RepoType, start: str
) -> None:
    made(server, "wendy/first", kind)
    at = f"/{start}wendy/first"
    assert f'href="{at}/settings"' in wendy.get(f"{at}/tree/main").text
    assert settle(wendy, at, act="visibility", visibility="private").status_code == 303
    assert server.http.get(at).status_code == 404 and found(server, "wendy/first", kind).private
    assert settle(wendy, at, act="gate", gate="manual").status_code == 303
    page = wendy.get(f"{at}/settings?done=gate").text
    assert found(server, "wendy/first", kind).gated == "manual" and 'role="status">Saved' in page
    assert settle(wendy, at, act="visibility", visibility="public").status_code == 303
    assert settle(wendy, at, act="gate", gate="open").status_code == 303
    assert found(server, "wendy/first", kind).gated is None and server.http.get(at).status_code == 200
    moved = settle(wendy, at, act="rename", name="second")
    assert moved.headers["location"] == f"/{start}wendy/second/settings?done=rename"
    gone = settle(wendy, f"/{start}wendy/second", act="delete", confirmation="wendy/second")
    assert gone.status_code == 303 and wendy.get(gone.headers["location"]).status_code == 200
    with pytest.raises(ModelNotFound):
        found(server, "wendy/second", kind)


def test_nothing_is_deleted_by_a_slip_and_what_was_typed_is_kept(server: SimpleNamespace, wendy: httpx.Client) -> None:
    made(server, "wendy/kept")
    for confirmation in ("", "kept", "wendy/other", "Wendy/Kept"):
        refused = settle(wendy, "/wendy/kept", act="delete", confirmation=confirmation)
        assert refused.status_code == 400 and "Type wendy/kept to delete it" in refused.text
        assert f'name="confirmation" value="{confirmation}"' in refused.text
    assert found(server, "wendy/kept").head


def test_a_name_that_is_taken_or_illegal_comes_back_on_the_form(server: SimpleNamespace, wendy: httpx.Client) -> None:
    made(server, "wendy/one")
    made(server, "wendy/two")
    for name, status in (("two", 409), ("a b", 400), ("one", 400), ("../x", 400), ("x" * 200, 400)):
        refused = settle(wendy, "/wendy/one", act="rename", name=name)
        assert refused.status_code == status, refused.text
        assert 'role="alert"' in refused.text and f'name="name" value="{name}"' in refused.text
    assert found(server, "wendy/one").id == "wendy/one"


def test_settings_are_for_the_author_and_administrators(server: SimpleNamespace, other: httpx.Client) -> None:
    made(server, "demo/common")
    assert "/settings" not in other.get("/demo/common").text, "a writer of a common namespace is no author"
    for client, status in ((other, 403), (server.http, 401)):
        assert client.get("/demo/common/settings").status_code == status
        sent = send(client, "/demo/common/settings", {"act": "delete", "confirmation": "demo/common"})
        assert sent.status_code in (401, 403)
    admin, _ = log_in(server)
    with contextlib.closing(admin):
        assert admin.get("/demo/common/settings").status_code == 200
        forged = send(admin, "/demo/common/settings", {"act": "delete", "confirmation": "demo/common"})
        assert forged.status_code == 403, "without the token of the form, another site may have sent it"
        nothing = settle(admin, "/demo/common", act="explode")
        assert nothing.status_code == 400 and "expected visibility, gate, rename or delete" in nothing.text
        wrong = settle(admin, "/demo/common", act="gate", gate="half")
        assert wrong.status_code == 400 and "expected open or auto or manual" in wrong.text
    assert found(server, "demo/common").head


def test_a_private_repository_hides_its_settings_from_strangers(server: SimpleNamespace) -> None:
    server.services.catalog.create("wendy/unseen", private=True, actor=SYSTEM)
    assert server.http.get("/wendy/unseen/settings").text.replace("unseen", "absent") == (
        server.http.get("/wendy/absent/settings").text
    )
