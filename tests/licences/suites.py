"""The suites of `benchmarks/licences/suites.py`, loaded by their path, and the explanations of `differences.yml`."""

import importlib.util
from pathlib import Path
from typing import Any

import yaml

_FILE = Path(__file__).parents[2] / "benchmarks" / "licences" / "suites.py"


def suites() -> Any:
    """The module; benchmarks are no package."""
    spec = importlib.util.spec_from_file_location("licence_suites", _FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def explained(suite: str) -> list[dict[str, Any]]:
    """The differences that are explained, each with the clause that decides."""
    found: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("differences.yml").read_text())[suite]
    return found
