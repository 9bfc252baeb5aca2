"""The figures that the thresholds of the comparison stand on, for families of your own.

FOLDER holds one folder for each family, with a model in each folder below it; the base is the one called `A` (or as
`--base` says). A table with the figures of each model against the base; then those of all that are named as independent
against each other. `tests/lineage/training.py` trains such families.

    python benchmarks/lineage/calibrate.py FOLDER [--base A] [--independent B,C,D]
"""

import argparse
import itertools
import json
from pathlib import Path

import numpy as np

from ecotone.lineage.comparing import compare
from ecotone.lineage.comparing.examining import examine
from ecotone.lineage.comparing.thresholds import thresholds
from ecotone.lineage.opening import open_weights

COLUMNS = ("cos", "qk", "rows", "aligned", "relL2", "slope", "spread", "top8/random", "zeros")


def figures(child: Path, parent: Path) -> dict[str, float | None]:
    seen = examine(open_weights(child), open_weights(parent), thresholds())
    found = list(seen.picture.projections.values())
    slopes = [d.slope for d in seen.picture.tables.values()] or [0.0]
    ratios = [s.top / s.random for s in seen.picture.spectra.values()]
    return {
        "cos": seen.plain,
        "qk": seen.qk,
        "rows": seen.rows,
        "aligned": seen.aligned,
        "relL2": float(np.median([d.relative for d in found])) if found else None,
        "slope": float(np.median(slopes)),
        "spread": float(np.quantile(slopes, 0.9) - np.quantile(slopes, 0.1)),
        "top8/random": float(np.median(ratios)) if ratios else None,
        "zeros": float(np.mean([d.child_zeros for d in found])) if found else None,
    }


def row(name: str, found: dict[str, float | None], said: str) -> str:
    cells = ("       -" if found[c] is None else f"{found[c]:8.3f}" for c in COLUMNS)
    return f"{name:44}" + " ".join(f"{c:>11}" for c in cells) + f"  {said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", default="A")
    parser.add_argument("--independent", default="B,C,D,B_indep_samedata,C_indep_otherdata,D_distilled_from_A")
    asked = parser.parse_args()
    independent, most, pairs = set(asked.independent.split(",")), {"cos": 0.0, "qk": 0.0, "rows": 0.0}, 0
    print(f"{'':44}" + " ".join(f"{c:>11}" for c in COLUMNS))
    for family in sorted(f for f in asked.folder.iterdir() if (f / asked.base).is_dir()):
        models = sorted(m.name for m in family.iterdir() if m.is_dir() and m.name != asked.base)
        against = [(n, asked.base) for n in models]
        against += itertools.permutations([n for n in models if n in independent], 2)
        for child, parent in against:
            found = figures(family / child, family / parent)
            said = compare(open_weights(family / child), open_weights(family / parent))
            print(row(f"{family.name}/{child} < {parent}", found, f"{said.related} {said.relation or ''}"))
            if child in independent:
                pairs += 1
                most = {n: max(v, abs(found[n] or 0.0)) for n, v in most.items()}
    print(json.dumps({"independent_pairs": pairs, **{f"most_{n}": round(v, 4) for n, v in most.items()}}))


if __name__ == "__main__":
    main()
