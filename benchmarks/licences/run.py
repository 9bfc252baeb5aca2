"""All benchmarks of the licence engine: speed, the suites of experts, detection. `make bench-licences`.

Runs each beside this file as a program of its own, shows what it prints, and ends with one line of JSON: the ratios by
name, and under `speed`, `suites` and `detection` everything that each measured (null where one is absent or failed).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RATIOS = {
    "speed": ("verdict_us", "class_us", "recompute_1m_s", "update_us_per_node", "load_ms"),
    "detection": ("detect_vs_scancode",),
}


def run(name: str, *argv: str) -> dict[str, Any] | None:
    """The last line of JSON that a benchmark prints; its other lines are shown."""
    file = HERE / f"{name}.py"
    if not file.exists():
        print(f"{name}: not here", file=sys.stderr)
        return None
    print(f"== {name}", file=sys.stderr, flush=True)
    done = subprocess.run([sys.executable, file, *argv], stdout=subprocess.PIPE, text=True)
    found = None
    for line in done.stdout.splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            found = value
        else:
            print(line, file=sys.stderr)
    if done.returncode or found is None:
        print(f"{name}: failed with status {done.returncode}", file=sys.stderr)
        return None
    return found


def main() -> None:
    parts = {"speed": run("speed", *sys.argv[1:]), "suites": run("suites"), "detection": run("detection")}
    ratios = {name: (parts[part] or {}).get(name) for part, names in RATIOS.items() for name in names}
    failed = [name for name, found in parts.items() if found is None and (HERE / f"{name}.py").exists()]
    print(json.dumps({**ratios, **parts}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
