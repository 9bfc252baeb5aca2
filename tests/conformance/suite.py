"""openai-python's own tests, from its source distribution, against an address; what each test said."""

import fcntl
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.clients.environments import FOLDER, environment
from tests.conformance.places import COLUMNS, places
from tests.running import clean_environment

VERSION = "3.54.0"
KEY = "My API Key"  # what the tests send
PARTS = {
    "chat": "tests/api_resources/chat",
    "completions": "tests/api_resources/test_completions.py",
    "embeddings": "tests/api_resources/test_embeddings.py",
    "models": "tests/api_resources/test_models.py",
}


@dataclass(frozen=True)
class Said:
    """What one test said: passed, failed or skipped, and for the last two why."""

    outcome: str
    why: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


Column = dict[str, dict[str, Said]]  # by part and test


def source() -> Path:
    """The unpacked source distribution; fetched once, by one process at a time."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = FOLDER / f"openai-{VERSION}"
    with open(FOLDER / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "api.md").exists():
            pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", ":all:", "-d", FOLDER]
            subprocess.run([*pip, f"openai=={VERSION}"], check=True, stdout=subprocess.DEVNULL)
            with tarfile.open(FOLDER / f"openai-{VERSION}.tar.gz") as packed:
                packed.extractall(FOLDER, filter="data")
    return folder


def run_all(folder: Path) -> dict[str, Column]:
    """Every part in every column, one column after another."""
    with _at_all_places(folder) as (python, addresses):
        return {name: run(python, addresses[name], folder) for name in COLUMNS}


@contextmanager
def _at_all_places(folder: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    python, tree = environment("openai-suite") / "python", source()
    tests = [tree / path for path in PARTS.values()]
    with places(folder, python, tree / "api.md", tests, KEY) as addresses:
        yield python, addresses


def run(python: Path, address: str, folder: Path) -> Column:
    """All parts against one address, `http://.../v1`."""
    report = folder / "report.xml"
    argv = [python, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", f"--junitxml={report}"]
    env = clean_environment(TEST_API_BASE_URL=address, PYTHONDONTWRITEBYTECODE="1")
    env.pop("PYTHONPATH", None)
    done = subprocess.run([*argv, *PARTS.values()], cwd=source(), env=env, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout[-3000:] + done.stderr[-3000:]
    found: Column = {part: {} for part in PARTS}
    for case in ET.parse(report).getroot().iter("testcase"):
        where, test = case.get("classname", ""), case.get("name", "")
        part = next(
            name for name, path in PARTS.items() if where.startswith(path.removesuffix(".py").replace("/", "."))
        )
        found[part][f"{where.removeprefix('tests.api_resources.')}::{test}"] = _said(case)
    return found


def _said(case: ET.Element) -> Said:
    for child in case:
        if child.tag in ("failure", "error"):
            return Said("failed", child.get("message", ""))
        if child.tag == "skipped":
            return Said("skipped", child.get("message", ""))
    return Said("passed")
