"""Detection over files and folders: what the command and the benchmark run."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from ecotone.licences.detection.detecting import Detection, detect, of_a_licence_file
from ecotone.licences.detection.reading import OF_THE_WORK, Unreadable, decoded, files_of, read
from ecotone.licences.entries import KnowledgeBase
from ecotone.licences.identify import Identified, identify

MOST_OF_A_WORK = 8
MOST_OF_A_TEXT = 256 * 1024
FOLDERS = ("", "license", "licenses", "licence", "licences")
_LONGEST_CARD = 64 * 1024
_FRONT = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.S)


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for a file. `declared`: what a model card's front matter says, None where there is none."""

    path: str
    declared: str | None = None
    detected: tuple[Detection, ...] = ()


def detect_files(
    paths: Iterable[Path], knowledge: KnowledgeBase | None, complain: Callable[[str, str], None]
) -> Iterator[Found]:
    """Answers for files, and for the licence, notice, README and source files of folders, in order.

    Args:
        paths: files or folders.
        knowledge: whose ids to answer with.
        complain: called with a path and the reason why it, or the rest of it, was not looked at; such a file has an
            empty answer.
    """
    for path in paths:
        try:
            for file in files_of(path):
                yield _detect_file(file, knowledge, complain)
        except Unreadable as reason:
            complain(str(path), str(reason))


def _detect_file(path: Path, knowledge: KnowledgeBase | None, complain: Callable[[str, str], None]) -> Found:
    try:
        read_text = read(path)
    except Unreadable as reason:
        complain(str(path), str(reason))
        return Found(path=str(path))
    if read_text.note:
        complain(str(path), read_text.note)
    card = declared_in(read_text.text, knowledge) if path.suffix.lower() in (".md", ".markdown") else None
    return Found(
        path=str(path),
        declared=card.declared if card else None,
        detected=tuple(detect(read_text.text, knowledge, whole=OF_THE_WORK.fullmatch(path.name) is not None)),
    )


def of_the_work(
    paths: Iterable[str], read_part: Callable[[str, int], bytes], knowledge: KnowledgeBase | None
) -> list[Detection]:
    """What the files hold that speak for a whole work: those named as licences, at its root or in a folder for them.

    Args:
        paths: of the work's files, relative, with `/`.
        read_part: the first so many bytes of one.
        knowledge: whose ids to answer with.
    """
    named = sorted(path for path in paths if speaks(path))[:MOST_OF_A_WORK]
    texts = (decoded(read_part(path, MOST_OF_A_TEXT)) for path in named)
    return [found for text in texts for found in of_a_licence_file(text, knowledge)]


def speaks(path: str) -> bool:
    """Whether a file is named as the licence of the whole work."""
    folder, _, name = path.rpartition("/")
    return folder.lower() in FOLDERS and OF_THE_WORK.fullmatch(name) is not None


def declared_in(text: str, knowledge: KnowledgeBase | None) -> Identified | None:
    """What the YAML front matter of a card declares; None without front matter, or where it is no mapping."""
    match = _FRONT.match(text[:_LONGEST_CARD])
    if match is None or knowledge is None:
        return None
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        card = yaml.load(match[1], Loader=loader)  # noqa: S506  a safe loader
    except (yaml.YAMLError, ValueError, RecursionError):
        return None
    return identify(knowledge, card) if isinstance(card, dict) else None
