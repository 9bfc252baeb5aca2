"""Files as they come: encodings, binaries, giants, traps."""

import os
import random
import time
from pathlib import Path

import pytest

from ecotone.licences.detection import Found, detect, detect_files
from ecotone.licences.detection.reading import LARGEST, files_of

ROOT = Path(__file__).resolve().parents[3]
LICENCE = (ROOT / "LICENSE").read_text()


def answers(*paths: Path) -> tuple[list[Found], dict[str, str]]:
    said: dict[str, str] = {}
    return list(detect_files(paths, None, lambda path, reason: said.setdefault(path, reason))), said


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_the_encoding_does_not_hide_a_licence(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "LICENSE"
    file.write_bytes(("“Café” licence\n\n" + LICENCE).encode(encoding))
    found, said = answers(file)
    assert [d.id for d in found[0].detected] == ["Apache-2.0"]
    assert not said


@pytest.mark.parametrize("junk", [b"\xff\xfe\xc3(", b"\x80\x81\xed\xa0", b"\xff\xff\xff"])
def test_broken_bytes_do_not_hide_a_licence(tmp_path: Path, junk: bytes) -> None:
    file = tmp_path / "LICENSE"
    file.write_bytes(junk + LICENCE.encode() + junk)
    found, _ = answers(file)
    assert [d.id for d in found[0].detected] == ["Apache-2.0"]


def test_a_binary_is_left_out_with_a_reason(tmp_path: Path) -> None:
    file = tmp_path / "NOTICE"
    file.write_bytes(bytes(range(256)) * 10)
    found, said = answers(file)
    assert found == [Found(path=str(file))]
    assert said == {str(file): "binary"}


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "LICENSE")
    _, said = answers(tmp_path / "LICENSE", tmp_path / "absent")
    assert said == {str(tmp_path / "LICENSE"): "not a regular file", str(tmp_path / "absent"): "no such file or folder"}


def test_fifty_megabytes_in_one_line_are_read_to_a_bound(tmp_path: Path) -> None:
    file = tmp_path / "LICENSE"
    with file.open("w") as out:
        out.write(" ".join(LICENCE.split()) + " ")
        out.writelines("word " * 1000 for _ in range(10_000))
    began = time.thread_time()
    found, said = answers(file)
    assert time.thread_time() - began < 20
    assert [d.id for d in found[0].detected] == ["Apache-2.0"]
    assert said[str(file)].startswith(f"only the first {LARGEST:,} of ")


@pytest.mark.parametrize(
    "hostile",
    [
        "<a" * 200_000,
        "<script" * 60_000,
        "a." * 200_000,
        "((" * 200_000,
        "](" * 200_000,
        "gnu general public license under version " * 10_000,
        "SPDX-License-Identifier: " + "(MIT AND " * 40_000,
        "copyright not " * 30_000,
        "&#" * 200_000,
        "\n" * 400_000,
        "1.1.1." * 70_000,
        "not only commercial " * 20_000,
    ],
)
def test_no_text_makes_the_patterns_explode(hostile: str) -> None:
    began = time.thread_time()
    detect(hostile)
    assert time.thread_time() - began < 8


def test_a_licence_repeated_a_thousand_times_is_one_answer() -> None:
    began = time.thread_time()
    answered = detect("\n\n".join([LICENCE] * 100))
    assert [d.id for d in answered] == ["Apache-2.0"]
    assert time.thread_time() - began < 20


def test_words_at_random_are_nothing() -> None:
    chance = random.Random(1)
    assert detect(" ".join(f"{chance.getrandbits(30):x}" for _ in range(50_000))) == []


def test_folders_are_walked_for_licences_and_sources(tmp_path: Path) -> None:
    for name in ("LICENSE", "LICENSE-MIT.txt", "src/COPYING", "src/a.py", "README.md", "x.bin", ".git/LICENSE"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("SPDX-License-Identifier: MIT\n")
    (tmp_path / "LICENSE-link").symlink_to("/etc/passwd")
    names = [str(p.relative_to(tmp_path)) for p in files_of(tmp_path)]
    assert names == ["LICENSE", "LICENSE-MIT.txt", "README.md", "src/COPYING", "src/a.py"]
