"""The forms that documents must have: CycloneDX's schemas 1.4 to 1.7, and the model of SPDX 3.0.1 as data.

The schemas are CycloneDX's (Apache-2.0) without their descriptions; NOTICE says so. The model of SPDX names classes,
properties, cardinalities and vocabularies; `spdx_form` reads it.
"""

import functools
import json
from importlib.resources import files
from typing import Any

CYCLONEDX = ("1.4", "1.5", "1.6", "1.7")


@functools.cache
def form(name: str) -> dict[str, Any]:
    """A file of this folder, decoded."""
    found: dict[str, Any] = json.loads((files(__package__) / name).read_text(encoding="utf-8"))
    return found


@functools.cache
def listed_licences() -> frozenset[str]:
    """Ids of licences and exceptions on the SPDX list, as CycloneDX's schemas of this version take them."""
    return frozenset(form("spdx.schema.json")["enum"])
