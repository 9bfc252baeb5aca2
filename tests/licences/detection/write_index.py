"""Writes the index of known texts again: `python tests/licences/detection/write_index.py [FOLDER]`.

FOLDER holds the licence test data (default `../shared/data/licence` beside the checkout). Needed after a change of
`normalising.py`, `words.yaml` or `texts.yaml`; a test says when the file is out of date.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from ecotone.licences.detection.index import FILE, write  # noqa: E402
from tests.licences.detection.texts import sources  # noqa: E402


def main() -> None:
    data = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT.parent / "shared/data/licence"
    stored = write(sources(data))
    FILE.write_bytes(stored)
    print(f"{FILE}: {len(stored):,} bytes")


if __name__ == "__main__":
    main()
