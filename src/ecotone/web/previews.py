"""What a file looks like on a page: text by lines, a card, the header of weights, a picture; all of it bounded."""

import contextlib
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from ecotone.catalog import BadCard, File, Revision
from ecotone.catalog.cards import parse
from ecotone.lineage import BrokenWeights, TooManyTensors, parameters, read_safetensors
from ecotone.lineage.safetensors import header_length
from ecotone.storage import Storage
from ecotone.web.cards import card_html
from ecotone.web.rendering import marks

MOST_BYTES = 64 * 1024
MOST_LINES = 1500
MOST_LINE = 4000
MOST_CARD_BYTES = 256 * 1024
MOST_HEADER_BYTES = 1024 * 1024
MOST_TENSORS = 400
MOST_METADATA = 40
MOST_PICTURE_BYTES = 10 * 1024 * 1024
_PICTURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


@dataclass(frozen=True, slots=True)
class Preview:
    """What is shown of a file: one of `card`, `weights`, `lines` and `picture`, or none of them.

    `is_whole` tells whether all of it is shown, `has_marks` whether invisible marks of direction were made visible.
    """

    lines: list[str] | None = None
    card: Markup | None = None
    weights: dict[str, Any] | None = None
    picture: bool = False
    is_whole: bool = True
    has_marks: bool = False
    problems: list[str] = field(default_factory=list)


def previewed(storage: Storage, page: str, revision: Revision, file: File, *, plain: bool) -> Preview:
    """The preview of a file; `plain` shows the source of what would be rendered."""
    if file.path.endswith(".safetensors"):
        return _weights(storage, file)
    if picture_type(storage, file) is not None:
        return Preview(picture=True)
    if file.path.lower().endswith(".md") and not plain:
        card = rendered(storage, page, revision, file)
        if card is not None:
            return Preview(card=card)
    return _text(storage, file)


def rendered(storage: Storage, page: str, revision: Revision, file: File) -> Markup | None:
    """A Markdown file as harmless HTML, None when it is none that is read here.

    Args:
        page: the address of the repository, which relative links and pictures begin with.
    """
    if file.content.sha256 is not None or file.content.size > MOST_CARD_BYTES:
        return None
    text = as_text(b"".join(storage.read(file.content)))
    if text is None or not text.strip():
        return None
    with contextlib.suppress(BadCard):
        text = parse(text)[1]
    folder = file.path.rpartition("/")[0]
    place = f"{revision.id}/{quote(folder)}" if folder else revision.id
    return card_html(text, page, place) if text.strip() else None


def picture_type(storage: Storage, file: File) -> str | None:
    """The media type of a picture, by its first bytes; None for everything else, SVG with its scripts included."""
    if not 12 <= file.content.size <= MOST_PICTURE_BYTES:
        return None
    head = b"".join(storage.read(file.content, 0, 16))
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for start, kind in _PICTURES if head.startswith(start)), None)


def _text(storage: Storage, file: File) -> Preview:
    if file.content.size == 0:
        return Preview(lines=[])
    end = min(file.content.size, MOST_BYTES)
    text = as_text(b"".join(storage.read(file.content, 0, end)))
    if text is None:
        return Preview()
    shown = marks(text)
    lines = shown.removesuffix("\n").split("\n")
    is_whole = end == file.content.size and len(lines) <= MOST_LINES and all(len(n) <= MOST_LINE for n in lines)
    return Preview(lines=[line[:MOST_LINE] for line in lines[:MOST_LINES]], is_whole=is_whole, has_marks=shown != text)


def _weights(storage: Storage, file: File) -> Preview:
    """Tensors of a safetensors file, as far as its header is small enough to be read for a page."""
    try:
        length = header_length(b"".join(storage.read(file.content, 0, min(8, file.content.size))), file.content.size)
        if length is None:
            return Preview(problems=["The file is too short for a safetensors file."])
        if length > MOST_HEADER_BYTES:
            return Preview(problems=[f"Its header has {length} bytes, more than a page shows; clients read all of it."])
        read = read_safetensors(map(bytes, storage.read(file.content)), file.content.size)
    except (BrokenWeights, TooManyTensors) as error:
        return Preview(problems=[error.message])
    counts = parameters([read])
    return Preview(
        weights={
            "total": counts.total,
            "by_dtype": counts.by_dtype,
            "count": len(read.tensors),
            "tensors": read.tensors[:MOST_TENSORS],
            "metadata": [(k[:200], str(v)[:500]) for k, v in islice(read.metadata.items(), MOST_METADATA)],
        },
        is_whole=len(read.tensors) <= MOST_TENSORS,
    )


def as_text(data: bytes) -> str | None:
    """Bytes as text when they are UTF-8 (a character cut at the end is left out) without control characters."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3 or error.reason != "unexpected end of data":
            return None
        text = data[: error.start].decode()
    if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text):
        return None
    return text.replace("\r\n", "\n")
