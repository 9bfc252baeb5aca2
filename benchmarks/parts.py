"""Runs a topic's benchmarks, each as a program of its own, and takes up what they end with."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def run(file: Path, *argv: str) -> dict[str, Any] | None:
    """The last line of JSON that a benchmark prints; its other lines are shown. None where it is absent or failed."""
    name = file.stem
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
