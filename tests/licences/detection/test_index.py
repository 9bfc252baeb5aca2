"""The index is small, loads fast, holds no text, and is what its sources give."""

import re
import time
import zlib
from pathlib import Path

import msgspec

from ecotone.licences.detection.index import FILE, Index, _Stored, load, write
from ecotone.licences.detection.normalising import words_of
from tests.licences.detection.texts import listed, sources
from tests.running import slower


def test_the_index_is_small_and_loads_in_fifty_milliseconds() -> None:
    assert FILE.stat().st_size <= 3_000_000
    taken = []
    for _ in range(5):
        began = time.thread_time()
        Index(msgspec.msgpack.decode(FILE.read_bytes(), type=_Stored))
        taken.append(time.thread_time() - began)
    assert min(taken) <= 0.05 * slower()


def test_the_index_can_be_written_again_from_its_sources(shared: Path) -> None:
    assert write(sources(shared / "data/licence")) == FILE.read_bytes(), "run tests/licences/detection/write_index.py"


def test_no_words_of_a_licence_are_shipped(shared: Path) -> None:
    stored = msgspec.msgpack.decode(FILE.read_bytes(), type=_Stored)
    readable = b" ".join([stored.hashes, *map(zlib.decompress, (stored.runs, stored.decisive, stored.known))])
    longest = max((len(m) for m in re.findall(rb"[A-Za-z]+(?: [A-Za-z]+)+", readable)), default=0)
    assert longest < 40


def test_the_rules_hold_no_sentence_of_a_licence(shared: Path) -> None:
    texts = [f" {' '.join(words_of(t.text))} " for t in listed(shared / "data/licence")]
    for file in ("discriminators.yaml", "notices.yaml", "words.yaml"):
        rules = FILE.with_name(file).read_text()
        for quoted in re.findall(r'"([^"]+)"', rules):
            words = words_of(quoted)
            assert len(words) <= 8 or not any(f" {' '.join(words)} " in t for t in texts), quoted


def test_every_text_is_found_under_its_names() -> None:
    index = load()
    assert index.known[index.labels["apache-2.0"]].spdx
    assert index.labels["licenseref-scancode-llama-3.1-license-2024"] == index.labels["llama-3.1"] or (
        index.known[index.labels["licenseref-scancode-llama-3.1-license-2024"]].label == "llama-3.1"
    )
    assert all(known.length > 0 for known in index.known)
