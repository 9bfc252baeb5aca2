"""How fast the hub is for real clients, each figure against a named reference measured in the same run.

    make bench-hub                      all of it
    python benchmarks/hub/run.py --only transfers --mib 128 --rounds 3

Client and server share the machine. Rounds are interleaved and the mean of each side's best third is compared. The last
line is JSON with the ratios.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

import deduplication
import memory
import ranges
import transfers

PARTS = ("transfers", "ranges", "deduplication", "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument(
        "--gib", type=int, default=10, help="size of the file for ranges, and of what eight clients move"
    )
    args = parser.parse_args()
    wanted = args.only or PARTS
    found: dict[str, float] = {}
    print(f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}", flush=True)
    for part in wanted:
        with tempfile.TemporaryDirectory() as work:
            folder = Path(work)
            if part == "transfers":
                found |= transfers.measure(folder, args.mib, args.rounds)
            elif part == "ranges":
                found |= ranges.measure(folder, args.gib)
            elif part == "deduplication":
                found |= deduplication.measure(folder)
            else:
                found |= memory.measure(folder, args.gib)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
