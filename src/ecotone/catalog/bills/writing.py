"""A bill in one of the formats that people ask for."""

import json
import os
import re
import uuid
from datetime import UTC, datetime
from typing import Any

from ecotone import __version__
from ecotone.licences import KnowledgeBase
from ecotone.licences.bom.cyclonedx import cyclonedx
from ecotone.licences.bom.facts import Bill
from ecotone.licences.bom.spdx import spdx
from ecotone.vocabulary import Invalid

FORMATS = ("cyclonedx-1.7", "cyclonedx-1.6", "spdx-3")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_LATEST = 253402300799  # the last second that a timestamp of four digits of a year can name


def written(
    bill: Bill, knowledge: KnowledgeBase, form: str, *, timestamp: str | None = None, serial: str | None = None
) -> dict[str, Any]:
    """The document; equal input gives equal bytes but for `timestamp`, by default SOURCE_DATE_EPOCH or now.

    Raises:
        Invalid: an unknown format, or a timestamp or serial of another form.
    """
    if form not in FORMATS:
        raise Invalid(f"{form[:100]!r} is no format that is written here; {', '.join(FORMATS)} are.", param="format")
    moment, number = _timestamp(timestamp), _serial(serial)
    if form == "spdx-3":
        return spdx(bill, knowledge, tool=__version__, timestamp=moment, serial=number)
    version = form.removeprefix("cyclonedx-")
    return cyclonedx(bill, knowledge, version=version, tool=__version__, timestamp=moment, serial=number)


def text_of(document: dict[str, Any]) -> str:
    """The document as it is written to a file."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _timestamp(told: str | None) -> str:
    if told is not None:
        if not _MOMENT.fullmatch(told):
            raise Invalid(f"{told[:60]!r} is no timestamp; YYYY-MM-DDTHH:MM:SSZ is expected.", param="timestamp")
        return told
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch:
        return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if not epoch.isascii() or not epoch.isdigit() or int(epoch[:20]) > _LATEST:
        raise Invalid(f"SOURCE_DATE_EPOCH is {epoch[:60]!r}; seconds since 1970 are expected.", param="timestamp")
    return datetime.fromtimestamp(int(epoch), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _serial(told: str | None) -> str | None:
    try:
        return str(uuid.UUID(told.removeprefix("urn:uuid:"))) if told else None
    except ValueError:
        raise Invalid(f"{told[:60] if told else ''!r} is no UUID.", param="serial") from None
