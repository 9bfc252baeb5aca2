"""Our engine against transformers and sentence-transformers, in one run on the same core, one thread each.

    make bench-engines                                   all of it
    python benchmarks/engines/run.py --only causal --rounds 1

One core computes, the other asks. The unit is CPU seconds of the process that serves (its threads and children), since
a shared machine's wall time says little; rounds are interleaved, and the median of a round's ratios counts. Models are
made and references installed at first use (some minutes). The last line is JSON: ratios of rates, more is better;
`embed_1_p50_vs_bar` is our p50 for one text over 1.3 x a bare forward plus 2 ms, `cold_start_vs_plain` our start over
plain transformers', less is better.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable

import adapters
import agreement
import causal
import embeddings
import starts
import text_to_text
from ground import check_machine

PARTS: dict[str, Callable[[int], dict[str, float]]] = {
    "agreement": lambda _rounds: agreement.measure(),
    "causal": causal.measure,
    "text_to_text": text_to_text.measure,
    "adapters": adapters.measure,
    "embeddings": embeddings.measure,
    "starts": starts.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    check_machine()
    import torch
    import transformers

    print(
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        flush=True,
    )
    found: dict[str, float] = {}
    for part in args.only or PARTS:
        print(f"\n{part}", flush=True)
        found |= PARTS[part](args.rounds)
    print(json.dumps({name: round(value, 6) for name, value in found.items()}))


if __name__ == "__main__":
    main()
