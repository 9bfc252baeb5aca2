"""Licence detection: exact answers and time per text, ours and ScanCode's on the same texts.

    python benchmarks/licences/detection.py [--scancode-python PYTHON] [--every N]

Needs the shared licence test data (../shared/data/licence beside the checkout). ScanCode is asked where this
interpreter has it (extra `detect`), or the one named by `--scancode-python` or `ECOTONE_SCANCODE_PYTHON`. Both read the
same files from disk, warm, with the index loaded. `detect_vs_scancode` is our median divided by ScanCode's: below 1 is
faster.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from ecotone.licences import KnowledgeBase  # noqa: E402
from ecotone.licences.detection import SecondOpinionFailed, detect_files, second_opinion  # noqa: E402
from ecotone.licences.detection.detecting import Identity  # noqa: E402
from ecotone.licences.detection.index import FILE, load  # noqa: E402
from tests.licences.detection.scoring import Case, google_cases, plain_google, plain_spdx, spdx_cases  # noqa: E402
from tests.licences.detection.texts import listed  # noqa: E402

DATA = ROOT.parent / "shared/data/licence"


def suites(data: Path, every: int) -> dict[str, list[Case]]:
    """Cases of each suite."""
    identity = Identity(load(), KnowledgeBase.load())  # the names that the knowledge base has for them
    ai = [Case(item.name, item.text, frozenset({plain_spdx(identity.of(item.id)[0])})) for item in listed(data)]
    found = {"spdx_simple": spdx_cases(data), "google": google_cases(data), "ai": ai}
    return {name: cases[::every] for name, cases in found.items()}


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50 and p95 in milliseconds."""
    cut = statistics.quantiles(seconds, n=20)
    return {"p50_ms": round(statistics.median(seconds) * 1e3, 2), "p95_ms": round(cut[18] * 1e3, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--scancode-python", default=os.environ.get("ECOTONE_SCANCODE_PYTHON"))
    parser.add_argument("--every", type=int, default=1, help="only every N-th text of each suite")
    options = parser.parse_args()
    if not options.data.is_dir():
        parser.error(f"{options.data} is not here")
    began = time.perf_counter()
    load()
    result: dict[str, object] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "index_bytes": FILE.stat().st_size,
        "index_load_ms": round((time.perf_counter() - began) * 1e3, 1),
    }
    with tempfile.TemporaryDirectory() as folder:
        measure(suites(options.data, options.every), Path(folder), options.scancode_python, result)
    print(json.dumps(result))


def measure(cases: dict[str, list[Case]], folder: Path, python: str | None, result: dict[str, object]) -> None:
    """Run both over the same files and put the figures into `result`."""
    knowledge = KnowledgeBase.load()
    files: list[Path] = []
    ours: list[float] = []
    for suite, listed_cases in cases.items():
        plain = plain_google if suite == "google" else plain_spdx
        right = 0
        for number, case in enumerate(listed_cases):
            path = folder / f"{suite}-{number}.txt"
            path.write_text(case.text)
            began = time.perf_counter()
            found = next(iter(detect_files([path], knowledge, lambda *_: None)))
            ours.append(time.perf_counter() - began)
            files.append(path)
            right += {plain(d.id) for d in found.detected} == case.expected
        result[suite] = {"texts": len(listed_cases), "exact": right}
    result["ours"] = percentiles(ours)
    try:
        opinions = second_opinion(files, python=python)
    except SecondOpinionFailed as error:
        result["scancode"] = error.message
        return
    theirs = [o.seconds for o in opinions]
    result["scancode"] = {"engine": opinions[0].engine, **percentiles(theirs)}
    result["detect_vs_scancode"] = round(statistics.median(ours) / statistics.median(theirs), 3)
    result["detect_vs_scancode_p95"] = round(
        statistics.quantiles(ours, n=20)[18] / statistics.quantiles(theirs, n=20)[18], 3
    )
    result["detect_vs_scancode_slower_texts"] = sum(a > b for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    main()
