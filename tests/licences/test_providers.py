"""What a user would lose: the terms of the day on which outputs were made (T31)."""

from datetime import date

import pytest

from ecotone.licences import KnowledgeBase
from ecotone.licences.providers import _families, terms_of_outputs

KB = KnowledgeBase.load()
NOW, OLD, CONSUMER = "openai-services-agreement-2026-01-01", "openai-tou-2023-03-14", "openai-tou-2024-12-11"


@pytest.mark.parametrize(
    ("provider", "since", "until", "expected"),
    [
        ("OpenAI", date(2023, 5, 1), date(2023, 6, 1), (OLD,)),
        ("openai", date(2024, 12, 10), date(2024, 12, 11), (OLD, CONSUMER)),
        ("openai", date(2026, 2, 1), date(2026, 2, 2), (NOW, CONSUMER)),
        ("openai", None, date(2022, 1, 1), ("unknown",)),
        ("openai", None, date(2026, 2, 2), (NOW, OLD, CONSUMER)),
        ("deepseek", date(2026, 5, 1), None, ("deepseek-open-platform-2026-04-29",)),
        ("nobody", date(2026, 5, 1), None, ("unknown",)),
        (None, None, None, ("unknown",)),
    ],
)
def test_t31_outputs_come_under_the_terms_of_their_days(
    provider: str | None, since: date | None, until: date | None, expected: tuple[str, ...]
) -> None:
    assert terms_of_outputs(KB, provider=provider, terms=None, since=since, until=until) == expected


def test_outputs_made_until_now_come_under_the_terms_in_force_on_the_day_of_every_other_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which is that of UTC, wherever the machine stands."""
    monkeypatch.setattr("ecotone.licences.providers.today", lambda: date(2023, 6, 1))
    assert terms_of_outputs(KB, provider="openai", terms=None, since=date(2023, 5, 1), until=None) == (OLD,)


def test_terms_by_name_win_and_a_family_is_read_by_its_days() -> None:
    day = date(2023, 5, 1)
    assert terms_of_outputs(KB, provider="xai", terms=NOW, since=day, until=day) == (NOW,)
    assert terms_of_outputs(KB, provider=None, terms="openai-consumer", since=day, until=day) == (OLD,)
    assert terms_of_outputs(KB, provider="openai", terms="invented", since=day, until=day) == ("unknown",)


def test_every_family_of_a_provider_is_in_the_knowledge_base() -> None:
    known = {e.family for e in KB.entries.values() if e.kind == "api_terms"}
    assert {f for families in _families().values() for f in families} <= known
