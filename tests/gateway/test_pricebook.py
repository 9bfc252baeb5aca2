"""Prices of the organisation: set, in force within two seconds, kept with their history, taken back."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ecotone.accounts import SYSTEM, Actor
from ecotone.database import Database
from ecotone.gateway.metering import Usage
from ecotone.gateway.pricebook import PriceBook
from ecotone.gateway.snapshot import Snapshot
from ecotone.vocabulary import Forbidden, Invalid, NotFound, Role
from tests.running import Running, contents, in_time, running

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()
BACKENDS = [("openai", "https://api.openai.com/v1"), ("house", "http://127.0.0.1:8000/v1")]


def snapshot(book: PriceBook) -> Snapshot:
    return Snapshot(prices=book.prices(BACKENDS, ["demo/local"], NOW))


@pytest.fixture
def book(database: Database) -> PriceBook:
    return PriceBook(database)


def test_a_listed_model_has_its_price_a_local_one_is_free_and_the_rest_is_unknown(book: PriceBook) -> None:
    found = snapshot(book)
    listed, local = found.price("openai/gpt-4o"), found.price("demo/local")
    assert listed is not None and listed.version == "openai/gpt-4o 2026-11-28 (genai-prices 0.2.3)"
    assert local is not None and local.free and local.cost(Usage(prompt_tokens=10**6)) == 0
    assert found.price("house/llama") is found.price("openai/gpt-99") is found.price("demo/other") is None


def test_what_an_administrator_sets_wins_and_every_version_is_kept(book: PriceBook) -> None:
    book.set("openai/GPT-4o", {"input": "1", "output": "2.5"}, actor=SYSTEM)
    book.set("openai/GPT-4o", {"input": "0.5", "output": "2", "request": "0.01"}, actor=SYSTEM)
    for name in ("openai/gpt-4o", "openai/GPT-4o"):
        price = snapshot(book).price(name)
        assert price is not None and price.version == "own openai/GPT-4o v2"
        assert price.cost(Usage(prompt_tokens=2, completion_tokens=3)) == 2 * 500_000 + 3 * 2_000_000 + 10**10
    book.remove("openai/GPT-4o", actor=SYSTEM)
    book.set("openai/GPT-4o", {"input": "9", "output": "9"}, actor=SYSTEM)
    assert [(o.version, o.figures["input"], o.ended is None) for o in book.history("openai/GPT-4o")] == [
        (3, "9", True),
        (2, "0.5", False),
        (1, "1", False),
    ]


def test_a_price_for_all_of_a_backend_replaces_its_list_and_gives_way_to_a_model_s_own(book: PriceBook) -> None:
    book.set("house/*", {"input": "0.1", "output": "0.2"}, actor=SYSTEM)
    book.set("house/llama", {}, free=True, actor=SYSTEM)
    book.set("openai/*", {"input": "7", "output": "7"}, actor=SYSTEM)
    found = snapshot(book)
    told = {name: found.price(name) for name in ("house/any", "house/llama", "openai/gpt-4o", "openai/new")}
    versions = {name: price.version for name, price in told.items() if price is not None}
    assert versions == {
        "house/any": "own house/* v1",
        "house/llama": "own house/llama v1",
        "openai/gpt-4o": "own openai/* v1",
        "openai/new": "own openai/* v1",
    }


@pytest.mark.parametrize(
    ("model", "figures", "free", "word"),
    [
        ("openai", {"input": "1", "output": "1"}, False, "BACKEND/model"),
        ("openai/a b", {"input": "1", "output": "1"}, False, "BACKEND/model"),
        ("openai/a", {"input": "1"}, False, "at least"),
        ("openai/a", {"input": "0", "output": "0.0"}, False, "say `free`"),
        ("openai/a", {"input": "1", "output": "1"}, True, "no figures"),
        ("openai/a", {"input": "-1", "output": "1"}, False, "decimal figure"),
        ("openai/a", {"input": "1e3", "output": "1"}, False, "decimal figure"),
        ("openai/a", {"input": "NaN", "output": "1"}, False, "decimal figure"),
        ("openai/a", {"input": "1", "output": "1", "inptu": "1"}, False, "no part of a price"),
    ],
)
def test_what_is_no_price_is_refused_with_what_was_expected(
    book: PriceBook, model: str, figures: dict[str, Any], free: bool, word: str
) -> None:
    with pytest.raises(Invalid, match=word):
        book.set(model, figures, free=free, actor=SYSTEM)
    assert book.list() == []


def test_only_administrators_set_prices_and_only_what_is_set_can_be_taken_back(book: PriceBook) -> None:
    with pytest.raises(Forbidden):
        book.set("openai/a", {"input": "1", "output": "1"}, actor=Actor(kind="user", name="eve", role=Role.WRITE))
    with pytest.raises(NotFound, match="ecotone price list"):
        book.remove("openai/a", actor=SYSTEM)


# -- over a running server -------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("prices")) as found:
        found.told("backend", "add", "openai", "--url", "https://api.openai.com/v1")
        yield found


def said(server: Running, *argv: str) -> str:
    done = server.cli("price", *argv)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(server: Running, model: str) -> dict[str, Any]:
    answer = server.http.get(f"/api/ecotone/v1/prices/{model}")
    found: dict[str, Any] = answer.json()
    return found


def test_a_price_is_in_force_within_two_seconds_and_gone_as_fast(server: Running) -> None:
    end = time.monotonic() + 60
    while not (before := shown(server, "openai/gpt-4o")).get("known"):
        assert time.monotonic() < end
    assert (before["input"], before["output"], before["cache_read"]) == ("2.5", "10", "1.25")
    assert before["source"].startswith("https://") and before["retrieved"] == "2026-11-28"

    def set_to(turn: int) -> Callable[[], bool]:
        said(server, "set", "openai/gpt-4o", "--input", f"{2 + turn}", "--output", "8", "--cache-read", "0.5")
        return lambda: shown(server, "openai/gpt-4o")["version"] == f"own openai/gpt-4o v{turn + 1}"

    in_time(set_to, 2)
    listed = server.told("price", "list")
    assert [(row["model"], row["figures"]["output"]) for row in listed] == [("openai/gpt-4o", "8")]
    told = said(server, "show", "openai/gpt-4o")
    assert "set by an administrator" in told and "own openai/gpt-4o v" in told
    assert "gpt-5" in said(server, "list", "--backend", "openai")

    def removed(turn: int) -> Callable[[], bool]:
        if turn:
            said(server, "set", "openai/gpt-4o", "--input", "9", "--output", "8")
            end = time.monotonic() + 60
            while shown(server, "openai/gpt-4o")["input"] != "9":
                assert time.monotonic() < end
        said(server, "remove", "openai/gpt-4o")
        return lambda: shown(server, "openai/gpt-4o")["input"] == "2.5"

    in_time(removed, 2)
    assert shown(server, "openai/gpt-4o")["history"][0]["ended_by"]


def test_a_change_of_a_price_stands_in_the_ledger(server: Running) -> None:
    said(server, "set", "openai/ledger-test", "--input", "3", "--output", "4")
    lines = b"".join(data for _, data in contents(server.data / "ledger"))
    assert b'"act":"price.set"' in lines and b'"model":"openai/ledger-test","version":1' in lines


def test_an_unknown_price_says_so_and_what_to_do(server: Running) -> None:
    answer = server.http.get("/api/ecotone/v1/prices/openai/never-heard-of")
    assert answer.status_code == 404 and answer.json()["error"]["code"] == "price_unknown"
    assert "ecotone price set" in answer.json()["error"]["message"]
