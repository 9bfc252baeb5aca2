"""All benchmarks of the licence engine: speed, the suites of experts, detection. `make bench-licences`.

Runs each beside this file as a program of its own, shows what it prints, and ends with one line of JSON: the ratios by
name, and under `speed`, `suites` and `detection` everything that each measured (null where one is absent or failed).
"""

import json
import sys
from pathlib import Path

from benchmarks.parts import run

HERE = Path(__file__).parent
PARTS = ("speed", "suites", "detection")
RATIOS = {
    "speed": ("verdict_us", "class_us", "recompute_1m_s", "update_us_per_node", "load_ms"),
    "detection": ("detect_vs_scancode",),
}


def main() -> None:
    parts = {name: run(HERE / f"{name}.py", *(sys.argv[1:] if name == "speed" else ())) for name in PARTS}
    ratios = {name: (parts[part] or {}).get(name) for part, names in RATIOS.items() for name in names}
    failed = [name for name, found in parts.items() if found is None and (HERE / f"{name}.py").exists()]
    print(json.dumps({**ratios, **parts}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
