"""All benchmarks of lineage: fingerprints beside sha256, comparison beside sha256 of both files. `make bench-lineage`.

Runs each beside this file as a program of its own, on one thread, shows what it prints, and ends with one line of JSON.
Its bar: `fingerprint_vs_sha256` is at least 1 (not slower than sha256 of the same file on the same core).
"""

import json
import os
import sys
from pathlib import Path

from benchmarks.parts import run

HERE = Path(__file__).parent


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
    parts = {name: run(HERE / f"{name}.py") for name in ("fingerprint", "compare")}
    print(json.dumps({key: value for found in parts.values() for key, value in (found or {}).items()}))
    sys.exit(1 if None in parts.values() else 0)


if __name__ == "__main__":
    main()
