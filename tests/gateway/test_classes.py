"""Classes of holes that gateways were broken by: what no request leads to here, whatever stands in it."""

import ast
import hashlib
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import ecotone
from ecotone.catalog.cards import _CardLoader
from ecotone.catalog.starter.reading import _LOADER
from ecotone.gateway.snapshot import Key

SOURCES = Path(ecotone.__file__).parent
RUNS_TEXT = re.compile(
    r"eval|exec|compile|__import__|os\.system|os\.popen|pty\.spawn|code\.\w+|yaml\.(?!safe_)\w*load|torch\.load|joblib\.load"
    r"|(pickle|marshal|shelve|dill|cloudpickle)\.\w+|.*\bfrom_string|(.*\.)?Template|render_template_string"
)
YAML = (
    "catalog/cards.py", "catalog/starter/reading.py", "licences/packed.py", "licences/openness.py",
    "licences/detection/normalising.py", "licences/detection/notices.py", "licences/detection/files.py",
    "licences/detection/discriminators.py",
)  # fmt: skip
"""Files that read YAML with a safe loader in C, or one made of it."""
ALLOWED = {file: {"yaml.load"} for file in YAML} | {
    # a model's chat template, rendered in a sandbox of its own process, with bounds on time, memory and length
    "engines/server/rendering_child.py": {"_environment().from_string"},
}


def calls() -> dict[str, list[ast.Call]]:
    """All calls in the sources, by file."""
    found = defaultdict(list)
    for file in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                found[file.relative_to(SOURCES).as_posix()].append(node)
    return found


def test_cve_2026_42203_40217_and_42271_no_text_is_run_as_code_template_or_shell() -> None:
    for file, found in calls().items():
        running = {name for call in found if RUNS_TEXT.fullmatch(name := ast.unparse(call.func))}
        assert running <= ALLOWED.get(file, set()), file
        for call in found:
            assert "shell" not in {keyword.arg for keyword in call.keywords}, f"{file}:{call.lineno}"
            if ast.unparse(call.func) == "yaml.load":
                assert {keyword.arg for keyword in call.keywords} == {"Loader"}, f"{file}:{call.lineno}"


def test_the_loaders_of_yaml_make_no_objects() -> None:
    for loader in (_CardLoader, _LOADER):
        with pytest.raises(yaml.YAMLError):
            yaml.load("!!python/object/apply:os.getcwd []", Loader=loader)


def test_cve_2026_114612_each_purpose_has_a_secret_of_its_own() -> None:
    """Made apart at random, none derived from another: one that leaks lets nobody make what another vouches for."""
    users: dict[str, set[str]] = defaultdict(set)
    for file, found in calls().items():
        for call in found:
            if isinstance(call.func, ast.Attribute) and call.func.attr == "secret" and call.args:
                users[ast.unparse(call.args[0])].add(file)
    assert len(users) >= 8, "secrets are no longer made by Settings.secret"
    shared = {name: files for name, files in users.items() if len(files) > 1}
    assert set(shared) <= {"LEDGER_KEY", "MACHINE"}, "the ledger's signatures, made and checked; a machine's own name"


def test_cve_2026_35030_keys_that_begin_alike_stay_apart(house: Any) -> None:
    """Whoever was let in is remembered by the whole head, not by a part of it."""
    begin = "eck_" + "a" * 60
    found = house.snapshots.current
    hashed = hashlib.sha256(f"{begin}1".encode()).hexdigest()
    house.snapshots.current = msgspec.structs.replace(
        found, version=2, keys={**found.keys, hashed: Key(id="one", project="shop")}
    )
    for _ in range(3):  # on one connection, so that the head is known
        assert house.post("fake/gpt-test", key=f"{begin}1").status_code == 200
        for other in (f"{begin}2", begin, f"{begin}11"):
            assert house.post("fake/gpt-test", key=other).status_code == 401
    assert {r["key"] for r in map(house.settled, [house.post("fake/gpt-test", key=f"{begin}1")])} == {"one"}
