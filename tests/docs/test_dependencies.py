"""What we ship with is permissive: no GPL, AGPL or the like among the packages that an installation pulls in."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

REFUSED = re.compile(r"\b(A?GPL|GNU (AFFERO )?GENERAL PUBLIC|MULANPUBL|SSPL|BUSL)", re.IGNORECASE)
LESSER = re.compile(r"\bLGPL|LESSER", re.IGNORECASE)
# packages whose metadata names no licence; the licence was read in the package itself
READ_BY_HAND = {
    "cuda-toolkit": "NVIDIA Proprietary Software: names other packages, holds no file; torch for CUDA needs it"
}
# weak copyleft that is linked as a library, unchanged
TOLERATED = {"psycopg", "psycopg-binary"}


def licence_of(name: str) -> str:
    found = distribution(name).metadata
    told = [found.get("License-Expression") or "", (found.get("License") or "")[:200]]
    told += [c for c in found.get_all("Classifier") or [] if c.startswith("License ::")]
    return " | ".join(t for t in told if t.strip()) or READ_BY_HAND.get(name, "")


def shipped(extras: tuple[str, ...]) -> set[str]:
    """Names of every installed package that `ecotone[extras]` needs, over all steps."""
    seen: set[str] = set()
    stack = [("ecotone", extras)]
    while stack:
        name, wanted = stack.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in seen and name != "ecotone":
            continue
        seen.add(key)
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for text in requirements:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in (*wanted, "")):
                stack.append((needed.name, tuple(needed.extras)))
    return seen - {"ecotone"}


def test_no_copyleft_is_shipped() -> None:
    refused, unknown = {}, []
    for name in sorted(shipped(("engine", "tune", "audit", "postgres", "s3"))):
        try:
            licence = licence_of(name)
        except PackageNotFoundError:
            continue
        if not licence:
            unknown.append(name)
        elif LESSER.search(licence):
            if name not in TOLERATED:
                refused[name] = licence
        elif REFUSED.search(licence) and not re.search(r"\bOR\b", licence):
            refused[name] = licence
    assert not refused, refused
    assert not unknown, f"no licence is told by: {unknown}"


def test_what_builds_the_wheel_is_permissive_and_its_compiler_is_not_shipped() -> None:
    told = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["build-system"]["requires"]
    names = {Requirement(text).name for text in told}
    assert "mypy" in names
    licences = {name: licence_of(name) for name in names}
    assert all(licence and not REFUSED.search(licence) for licence in licences.values()), licences
    assert "mypy" not in shipped(("all", "detect", "ray"))
