"""Money is exact: every vector from a public report gives the sum on the bill, and what is unknown is never free."""

import time
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecotone.gateway.metering import Usage
from ecotone.gateway.pricelists import Figures, listed, price_list, provider_of, providers, units
from ecotone.gateway.prices import FREE, Price
from ecotone.gateway.snapshot import Snapshot
from tests.running import slower

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC).timestamp()


def price(**figures: str) -> Price:
    return Price(version="test", scale=(Figures(**{"input": "0", "output": "0"} | figures).rates(),))


def openai(prompt: int, completion: int, **inside: Any) -> Usage:
    usage = Usage()
    told = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    usage.take(told | {"prompt_tokens_details": inside})
    return usage


def anthropic(uncached: int, output: int, *, read: int = 0, written: int = 0, hour: int = 0) -> Usage:
    usage = Usage()
    split = {"ephemeral_5m_input_tokens": written - hour, "ephemeral_1h_input_tokens": hour}
    told = {"input_tokens": uncached, "cache_read_input_tokens": read, "cache_creation_input_tokens": written}
    usage.take_apart(told | {"output_tokens": output, "cache_creation": split})
    return usage


def usd(text: str) -> int:
    return units(text, 10**12)


# the issue that reported the wrong figure, its rates per million, usage in both conventions, the sum on the bill
VECTORS = [
    (
        "litellm-9812",
        {"input": "3", "cache_write": "3.75", "output": "15"},
        openai(12_307, 550, cache_write_tokens=12_304),
        anthropic(3, 550, written=12_304),
        "0.054399",
    ),
    (
        "litellm-35127",
        {"input": "5", "cache_read": "0.5", "cache_write": "6.25"},
        openai(172_000, 0, cached_tokens=155_000, cache_write_tokens=3_000),
        anthropic(14_000, 0, read=155_000, written=3_000),
        "0.16625",
    ),
    (
        "litellm-31714",
        {"input": "1.4", "cache_read": "0.26", "output": "4.4"},
        openai(27_147, 351, cached_tokens=27_146),
        anthropic(1, 351, read=27_146),
        "0.00860376",
    ),
    (
        "litellm-14849",
        {"input": "1.25", "cache_read": "0.625", "output": "10"},
        openai(262_960, 1_744, cached_tokens=257_955),
        anthropic(5_005, 1_744, read=257_955),
        "0.184918125",
    ),
    (
        "litellm-11364",
        {"input": "5", "cache_read": "0.5", "cache_write": "6.25", "output": "25"},
        openai(98_805, 5_120, cached_tokens=66_360, cache_write_tokens=32_435),
        anthropic(10, 5_120, read=66_360, written=32_435),
        "0.36394875",
    ),
]


@pytest.mark.parametrize(
    ("figures", "included", "apart", "bill"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS]
)
def test_cached_tokens_cost_what_the_bill_says_in_both_conventions(
    figures: dict[str, str], included: Usage, apart: Usage, bill: str
) -> None:
    assert price(**figures).cost(included) == usd(bill)
    assert price(**figures).cost(apart) == usd(bill)
    assert included.prompt_tokens == apart.prompt_tokens and included.uncached_tokens == apart.uncached_tokens


def test_the_listed_price_of_claude_opus_4_5_gives_the_reported_sum() -> None:
    opus = listed("anthropic", NOW)["claude-opus-4-5-20251101"]
    assert opus.cost(anthropic(10, 5_120, read=66_360, written=32_435)) == usd("0.36394875")
    rates = opus.scale[0]
    assert (rates.input, rates.output, rates.cache_read, rates.cache_write, rates.cache_write_1h) == (
        5_000_000,
        25_000_000,
        500_000,
        6_250_000,
        10_000_000,
    )
    assert opus.cost(anthropic(0, 0, written=1_000_000, hour=1_000_000)) == usd("10")


def test_a_long_prompt_moves_the_whole_request_to_the_higher_rates() -> None:
    model = listed("openai", NOW)["gpt-5.4"]
    assert model.cost(openai(272_000, 100)) == 272_000 * 2_500_000 + 100 * 15_000_000
    assert model.cost(openai(272_001, 100)) == 272_001 * 5_000_000 + 100 * 22_500_000
    assert model.cost(openai(272_001, 0, cached_tokens=1)) == 272_000 * 5_000_000 + 500_000


def test_the_service_tier_that_was_answered_is_charged() -> None:
    model = listed("openai", NOW)["gpt-5"]
    usage = openai(1000, 1000)
    costs = {}
    for tier in (None, "default", "flex", "priority", "never heard of"):
        usage.service_tier = tier
        costs[tier] = model.cost(usage)
    standard = 1000 * 1_250_000 + 1000 * 10_000_000
    assert costs[None] == costs["default"] == standard
    assert costs["flex"] == standard // 2
    assert costs["priority"] == costs["never heard of"] == standard * 2


def test_audio_and_requests_have_prices_of_their_own() -> None:
    model = price(input="2.5", output="10", input_audio="40", output_audio="80", request="0.01")
    usage = openai(100, 50, audio_tokens=60)
    usage.audio_completion_tokens = 20
    assert model.cost(usage) == usd("0.01") + 40 * 2_500_000 + 60 * 40_000_000 + 30 * 10_000_000 + 20 * 80_000_000


def test_reasoning_is_a_part_of_the_answer_and_never_added() -> None:
    usage = Usage()
    usage.take({"prompt_tokens": 10, "completion_tokens": 500, "completion_tokens_details": {"reasoning_tokens": 450}})
    assert (usage.completion_tokens, usage.reasoning_tokens) == (500, 450)
    assert price(output="10").cost(usage) == 500 * 10_000_000


def test_figures_in_a_stream_replace_earlier_ones_in_both_conventions() -> None:
    usage = Usage()
    for completion in (1, 5, 9):
        usage.take({"prompt_tokens": 20, "completion_tokens": completion})
    usage.take({"prompt_tokens": None, "completion_tokens": None})
    assert (usage.prompt_tokens, usage.completion_tokens, usage.estimate) == (20, 9, False)
    usage = Usage()
    usage.take_apart(
        {"input_tokens": 7, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 30, "output_tokens": 1}
    )
    usage.take_apart({"output_tokens": 40, "cache_read_input_tokens": None})
    usage.take_apart({"input_tokens": 7, "cache_read_input_tokens": 100, "output_tokens": 55})
    assert (usage.prompt_tokens, usage.completion_tokens) == (137, 55)
    assert (usage.uncached_tokens, usage.cached_tokens, usage.cache_write_tokens) == (7, 100, 30)


def test_a_server_that_counts_cached_tokens_apart_under_openai_s_names_is_not_charged_less_than_nothing() -> None:
    usage = openai(10, 0, cached_tokens=100)
    assert usage.odd and (usage.prompt_tokens, usage.uncached_tokens) == (110, 10)


COUNTS = st.integers(0, 10**7)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_whatever_a_provider_tells_no_part_is_negative_and_the_parts_are_the_sum(
    prompt: int, completion: int, read: int, write: int, audio: int
) -> None:
    for usage in (
        openai(prompt, completion, cached_tokens=read, cache_write_tokens=write, audio_tokens=audio),
        anthropic(prompt, completion, read=read, written=write, hour=audio),
    ):
        parts = (usage.uncached_tokens, usage.cached_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens)
        assert min(parts) >= 0 and sum(parts) == usage.prompt_tokens
        assert price(input="3", output="15", input_audio="40").cost(usage) >= 0


@given(COUNTS, COUNTS, COUNTS, st.sampled_from(["gpt-5.4", "gpt-5", "gpt-4o", "gpt-4o-audio-preview", "gpt-5.5"]))
def test_what_is_reserved_is_never_less_than_what_is_charged(
    prompt: int, completion: int, part: int, name: str
) -> None:
    model = listed("openai", NOW)[name]
    read = part % (prompt + 1)
    usage = openai(prompt, completion, cached_tokens=read, cache_write_tokens=(prompt - read) // 2)
    for tier in (None, "flex", "priority"):
        usage.service_tier = tier
        assert model.most(prompt, completion) >= model.cost(usage)
        assert model.most(prompt, completion, tier) >= model.cost(usage)


def test_a_prompt_that_may_be_longer_than_estimated_is_reserved_at_the_longer_prompt_s_rates() -> None:
    model = listed("openai", NOW)["gpt-5.4"]
    assert model.most(60_000, 0, "default") == 60_000 * 2_500_000
    assert model.most(70_000, 0, "default") == 70_000 * 5_000_000


# -- where prices come from ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("provider", providers())
def test_every_price_has_a_source_a_date_and_figures_that_are_not_silently_nothing(provider: str) -> None:
    book = price_list(provider)
    assert book.provider == provider and book.source_url.startswith("https://") and book.hosts
    assert book.source_package.startswith("genai-prices ") and date.fromisoformat(book.retrieved)
    names = [name.lower() for model in book.models for name in model.names]
    assert len(names) == len(set(names)) > 0
    for model in book.models:
        assert model.prices
        for dated in model.prices:
            figures = [dated.input, dated.output, dated.request]
            assert all(Decimal(figure) >= 0 for figure in figures)
            if dated is model.in_force(datetime.fromtimestamp(NOW, UTC)):
                assert model.free == (not any(Decimal(figure) for figure in figures)), model.id
            if dated.valid_from:
                date.fromisoformat(dated.valid_from)


def test_a_name_is_found_as_it_is_listed_and_never_by_its_beginning() -> None:
    names = listed("openai", NOW)
    assert "gpt-4o" in names and "gpt-4o-2024-05-13" in names
    assert names["gpt-4o-2024-05-13"] != names["gpt-4o"]
    snapshot = Snapshot(prices={f"openai/{name}": each for name, each in names.items()})
    assert snapshot.price("openai/gpt-4o") is names["gpt-4o"]
    for unknown in ("openai/gpt-4o-2031-01-01", "openai/gpt-4", "openai/gpt", "openai/", "gpt-4o", "other/gpt-4o"):
        assert snapshot.price(unknown) is (names.get("gpt-4") if unknown == "openai/gpt-4" else None)
    assert snapshot.price("openai/ft:gpt-4o-mini-2024-07-18:acme::7p4lURel") is names["ft:gpt-4o-mini-2024-07-18"]
    assert snapshot.price("openai/ft:gpt-9:acme::7p4lURel") is None


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://API.OPENAI.com:443/v1", "openai"),
        ("https://acme.openai.azure.com/openai/v1", "azure"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.mistral.ai/v1", "mistral"),
        ("https://api.anthropic.com/v1", "anthropic"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "google"),
        ("https://router.huggingface.co/together/v1", "huggingface-together"),
        ("https://router.huggingface.co/v1", None),
        ("https://api.openai.com.evil.example/v1", None),
        ("https://evil.example/api.openai.com", None),
        ("http://127.0.0.1:8000/v1", None),
    ],
)
def test_whose_price_list_applies_is_known_by_the_address(url: str, provider: str | None) -> None:
    assert provider_of(url) == provider


def test_prices_that_begin_on_a_day_or_hold_for_some_hours_are_taken_by_the_clock() -> None:
    night, day = (datetime(2026, 11, 28, hour, tzinfo=UTC).timestamp() for hour in (0, 2))
    cheap, dear = (listed("deepseek", at)["deepseek-flash"] for at in (night, day))
    assert dear.scale[0].input == 2 * cheap.scale[0].input and dear.version != cheap.version
    found = [
        (provider, model)
        for provider in providers()
        for model in price_list(provider).models
        if model.prices[-1].valid_from and not model.prices[-1].hours
    ]
    assert found
    for provider, model in found:
        begins = datetime.fromisoformat(model.prices[-1].valid_from or "").replace(tzinfo=UTC)
        after = model.in_force(begins)
        before = model.in_force(datetime.fromtimestamp(begins.timestamp() - 1, UTC))
        assert after is model.prices[-1] and before is not after, provider


def test_free_is_only_what_says_so() -> None:
    assert FREE.cost(openai(10**6, 10**6)) == FREE.most(10**6, 10**6) == 0
    assert price().free is False


def test_the_lists_of_the_usual_providers_are_read_in_a_blink() -> None:
    usual = ["openai", "azure", "anthropic", "google", "mistral", "openrouter"]
    spent = []
    for _ in range(5):
        price_list.cache_clear()
        began = time.thread_time()
        for provider in usual:
            listed(provider, NOW)
        spent.append(time.thread_time() - began)
    assert min(spent) < 0.1 * slower()  # seconds of CPU, of a machine that does much else
