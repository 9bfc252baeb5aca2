"""Cases of the two public suites, and how an exact answer is counted there: as for the baseline that we are held to.

On both sides one trailing `-only` or `-or-later` is stripped, nothing else. Google's: `Copyright` is dropped from what
is expected, case is folded, ScanCode's prefix stripped, and sets are compared.
"""

import re
from pathlib import Path
from typing import NamedTuple

from tests.licences.detection.texts import text_of


class Case(NamedTuple):
    name: str
    text: str
    expected: frozenset[str]


def plain_spdx(name: str) -> str:
    """An id without one trailing `-only` or `-or-later`."""
    for suffix in ("-only", "-or-later"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return name


def plain_google(name: str) -> str:
    return plain_spdx(name).lower().removeprefix("licenseref-scancode-")


def spdx_cases(data: Path) -> list[Case]:
    """The 819 texts; what is expected is the file's name."""
    paths = sorted((data / "detection/spdx_simple").glob("*.txt"))
    return [Case(p.stem, text_of(p), frozenset({plain_spdx(p.stem)})) for p in paths]


def google_cases(data: Path) -> list[Case]:
    """The 41 scenarios, of which nothing is in the index."""
    found = []
    for path in sorted((data / "detection/google_licenseclassifier").iterdir()):
        if path.name in ("README.md", "LICENSE"):
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        match = re.search(r"EXPECTED:(.*)\n", text)
        assert match, path
        names = [n.strip() for n in match[1].split(",")]
        expected = frozenset(plain_google(n) for n in names if n not in ("", "Copyright"))
        found.append(Case(path.name, text[match.end() :], expected))
    return found
