"""`kill -9` of a server under uploads, commits, conversions and collections, 300 times, each moment drawn from a seed.

    make bench-crash
    python benchmarks/hub/crash.py --rounds 300 --seed 7

After each kill every byte of the store is checked, the server starts again, what was acknowledged is read and what was
not is sent again. A fresh installation every 25 rounds. Ends with one line of JSON; the seed and the round of a fault
are named, and the same seed draws the same moments.
"""

import argparse
import json
import secrets
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.app.crashing import Crashing

EACH = 25


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6))
    asked = parser.parse_args()
    print(f"seed {asked.seed}", flush=True)
    began, done, acknowledged, faults = time.monotonic(), 0, 0, []
    while done < asked.rounds:
        with tempfile.TemporaryDirectory(prefix="ecotone-crash-") as folder:
            crashing = Crashing(Path(folder), asked.seed + done)
            try:
                for _ in range(min(EACH, asked.rounds - done)):
                    crashing.round()
                    done += 1
                orphans = crashing.settle()
                if any(orphans.values()):
                    faults.append(f"seed {crashing.seed}: {orphans} left after collection")
            except AssertionError as error:
                faults.append(str(error))
                print(error, flush=True)
                done += EACH - crashing.rounds
            finally:
                acknowledged += len(crashing.told.acknowledged)
                crashing.close()
        print(f"{done} rounds, {acknowledged} commits acknowledged, {len(faults)} faults", flush=True)
    seconds = round(time.monotonic() - began)
    told = {"rounds": done, "acknowledged": acknowledged, "faults": len(faults), "seconds": seconds, "seed": asked.seed}
    print(json.dumps(told))
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
