"""A discussion or pull request as the catalogue hands it out, and what may stand in its texts. Pure.

Source: sections on community and webhooks of the Hugging Face Hub's protocol.
"""

import unicodedata
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from ecotone.catalog.entities import File, Revision
from ecotone.vocabulary import Conflict, Invalid, NotFound, TooLarge

MOST_TITLE = 200
MOST_COMMENT = 65_536
MOST_EVENTS = 5_000
MOST_TEXT = 8 * 1024 * 1024
MOST_DISCUSSIONS = 100_000
PULL_REQUESTS = "refs/pr/"
_BIDI = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")


class Status(StrEnum):
    """Draft and merged are for pull requests alone; merged is final."""

    DRAFT = "draft"
    OPEN = "open"
    CLOSED = "closed"
    MERGED = "merged"


ALIVE = (Status.DRAFT, Status.OPEN)


class Discussion(msgspec.Struct, frozen=True, kw_only=True):
    """A discussion of a repository; a pull request when `base`, the full ref of the branch it is for, is there.

    `fork` is the commit that a pull request began at, `merge_commit` what merging it made.
    """

    model_key: int
    num: int
    title: str
    author: str
    status: Status
    created: datetime
    base: str | None = None
    fork: str | None = None
    merge_commit: str | None = None

    @property
    def is_pull_request(self) -> bool:
        return self.base is not None

    @property
    def ref(self) -> str:
        """The full ref of a pull request."""
        return f"{PULL_REQUESTS}{self.num}"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened in a discussion.

    `type` and `data`: comment `{raw, hidden, edits: [{at, by}]}`; status-change `{status}`; commit `{subject, oid}`;
    title-change `{from, to}`. The text of a hidden comment is gone.
    """

    id: str
    type: str
    author: str
    created: datetime
    data: dict[str, Any]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What a pull request would change. `base` is the commit that both sides come from, None when there is none;
    `ours` the head of the branch it is for, None when that branch is gone."""

    base: Revision | None
    ours: Revision | None
    theirs: Revision
    before: Mapping[str, File]
    after: Mapping[str, File]
    conflicts: tuple[str, ...] = ()


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """A discussion to be opened; a pull request when `base` is there, at the commit `fork`."""

    title: str
    description: str
    author: str
    status: Status = Status.OPEN
    base: str | None = None
    fork: str | None = None


class Merging(msgspec.Struct, frozen=True, kw_only=True):
    """The pull request that a merge commit ends, whose head must still be `head` then."""

    num: int
    head: str
    author: str
    comment: str = ""


class DiscussionNotFound(NotFound):
    code = "discussion_not_found"

    def __init__(self, model_id: str, num: int) -> None:
        super().__init__(f"{model_id} has no discussion or pull request {num}.", param="num")


class CommentNotFound(NotFound):
    code = "comment_not_found"

    def __init__(self, num: int) -> None:
        super().__init__(f"Discussion {num} has no such comment.", param="comment")


class WrongStatus(Conflict):
    """A discussion is not in a state for what was asked."""

    code = "wrong_status"


class MergeConflict(Conflict):
    """Carries the paths that both sides changed."""

    code = "merge_conflict"

    def __init__(self, num: int, paths: tuple[str, ...]) -> None:
        shown = ", ".join(paths[:20]) + (f" and {len(paths) - 20} more" if len(paths) > 20 else "")
        super().__init__(
            f"Pull request {num} cannot be merged: both sides changed {shown}. Commit what shall stand to "
            f"{PULL_REQUESTS}{num}, or update it from its branch choosing a side for each file, and merge again."
        )
        self.paths = paths


def title_of(text: str) -> str:
    """A title as it is kept: one line, without characters that only turn the direction of what stands beside it.

    Raises:
        Invalid: when nothing remains, or too much.
    """
    shown = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Cs") else c for c in text if c not in _BIDI)
    found = " ".join(shown.split())
    if not 0 < len(found) <= MOST_TITLE:
        raise Invalid(f"A title has 1 to {MOST_TITLE} characters; this one has {len(found)}.", param="title")
    return found


def comment_of(text: str, *, needed: bool = True) -> str:
    """A comment's text as it is kept.

    Raises:
        Invalid, TooLarge: when it is empty though one is needed, or too long.
    """
    found = text.replace("\0", "\ufffd").replace("\r\n", "\n").encode("utf-8", "replace").decode()
    if len(found) > MOST_COMMENT:
        raise TooLarge(f"A comment has at most {MOST_COMMENT} characters; this one has {len(found)}.", param="comment")
    if needed and not found.strip():
        raise Invalid("A comment needs a text.", param="comment")
    return found if found.strip() else ""


def number_of(ref: str) -> int | None:
    """The number in a full ref of a pull request; None for another ref."""
    text = ref.removeprefix(PULL_REQUESTS)
    if text == ref or not (text.isascii() and text.isdigit() and len(text) < 10) or text.startswith("0"):
        return None
    return int(text)
