"""Declared, detected, concluded: what a licence file says beside the card, and what follows from it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ecotone.accounts import SYSTEM
from ecotone.catalog import Revision

APACHE = (Path(__file__).parents[2] / "LICENSE").read_bytes()


def published(house: SimpleNamespace, files: dict[str, bytes], licence: str | None = None) -> Revision:
    house.catalog.create("demo/one", private=False, actor=SYSTEM)
    line = f"license: {licence}\n" if licence else ""
    house.publish("demo/one", {"README.md": f"---\n{line}language: en\n---\n# One\n".encode(), **files})
    found: Revision = house.catalog.revision(house.catalog.model("demo/one", viewer=SYSTEM))
    return found


def test_a_text_that_fits_the_card_is_silent(house: SimpleNamespace) -> None:
    revision = published(house, {"LICENSE": APACHE}, "apache-2.0")
    assert (revision.declared_licence, revision.detected) == ("apache-2.0", ("Apache-2.0",))
    assert revision.instruments == ("Apache-2.0",) and revision.findings == ()


def test_a_text_that_is_another_licence_binds_too_and_is_said(house: SimpleNamespace) -> None:
    revision = published(house, {"LICENSE.txt": APACHE}, "cc-by-nc-4.0")
    assert set(revision.instruments) == {"CC-BY-NC-4.0", "Apache-2.0"}
    assert any("cc-by-nc-4.0" in f and "Apache-2.0" in f for f in revision.findings)


def test_a_text_alone_is_a_licence(house: SimpleNamespace) -> None:
    revision = published(house, {"COPYING": APACHE})
    assert (revision.declared_licence, revision.instruments) == (None, ("Apache-2.0",))


def test_a_text_with_a_clause_more_is_never_taken_for_the_licence(house: SimpleNamespace) -> None:
    more = APACHE + b"\n10. Limit. The Work may not be used for any commercial purpose without a separate licence.\n"
    revision = published(house, {"LICENSE": more}, "apache-2.0")
    assert "unknown" in revision.instruments and "Apache-2.0" not in revision.detected
    assert any("near Apache-2.0" in f for f in revision.findings)


@pytest.mark.parametrize("name", ["LICENSE-third-party", "NOTICE", "docs/LICENSE", "my-LICENSE"])
def test_texts_that_speak_of_parts_alone_decide_nothing(house: SimpleNamespace, name: str) -> None:
    revision = published(house, {name: APACHE}, "mit")
    assert (revision.detected, revision.instruments) == ((), ("MIT",))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x01" * 999, b"a" * 400_000, b"MIT " * 90_000], ids=len)
def test_no_file_stops_a_commit(house: SimpleNamespace, content: bytes) -> None:
    assert published(house, {"LICENSE": content}, "mit").declared_licence == "mit"


def test_the_verdict_is_that_of_what_was_concluded(house: SimpleNamespace) -> None:
    from ecotone.licences import Use
    from ecotone.vocabulary import Mode, Purpose, Verdict

    revision = published(house, {"LICENSE": APACHE + b"\nNo use by companies is permitted.\n"}, "apache-2.0")
    use = Use(mode=Mode.SERVE_API, purpose=Purpose.COMMERCIAL)
    answer: Any = house.policy.judge("demo/one", revision.id, use)
    assert answer.verdict is Verdict.UNKNOWN


def test_a_text_that_nobody_knows_is_never_taken_for_what_the_card_says(house: SimpleNamespace) -> None:
    foreign = (
        b"ACME Proprietary Licence. All rights reserved. You may not use, copy, modify, merge, publish or distribute "
        b"the Model or any part of it, nor serve it to others, without a written agreement with ACME. " * 2
    )
    revision = published(house, {"LICENSE": foreign}, "mit")
    assert set(revision.instruments) == {"MIT", "unknown"}
    assert any("none of those known" in f for f in revision.findings)


@pytest.mark.parametrize("name", ["MODEL_LICENSE", "licenses/LICENSE.txt", "LICENCE.md"])
def test_a_licence_file_is_read_where_people_put_it(house: SimpleNamespace, name: str) -> None:
    assert published(house, {name: APACHE}).detected == ("Apache-2.0",)


@pytest.mark.parametrize(
    "more",
    [
        "Not for commercial use.",
        "For research and personal use only, never in a business.",
        "Commercial use needs our written consent.",
        "You can't use it commercially.",
        "Use by companies with more than 100 employees is subject to a paid licence.",
        "Nicht für gewerbliche Zwecke, nur für Forschung und Lehre an öffentlichen Schulen.",
        "Коммерческое использование запрещено.",
    ],
)
def test_a_sentence_beside_a_text_counts_in_any_words(house: SimpleNamespace, more: str) -> None:
    revision = published(house, {"LICENSE": APACHE + f"\n{more}\n".encode()}, "apache-2.0")
    assert "unknown" in revision.instruments


def test_lines_of_copyright_are_no_terms(house: SimpleNamespace) -> None:
    lines = b"\nCopyright 2026 Anna Schmidt, Li Wei and the other authors of this model\n"
    assert published(house, {"LICENSE": lines + APACHE}, "apache-2.0").instruments == ("Apache-2.0",)


def test_a_text_in_another_encoding_is_read(house: SimpleNamespace) -> None:
    text = APACHE.decode().encode("utf-16")
    assert published(house, {"LICENSE": text}, "apache-2.0").detected == ("Apache-2.0",)


def test_marks_without_end_cost_no_more_than_their_length(house: SimpleNamespace) -> None:
    import time

    began = time.process_time()
    published(house, {"LICENSE": ("a" + "\u0300\u0316" * 60_000).encode()}, "mit")
    assert time.process_time() - began < 5
