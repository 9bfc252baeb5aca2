"""Models in folders for the tests of duties: card, licence file, and the folders of their parents."""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from typer.testing import CliRunner

from ecotone.cli.main import app

_TEXTS = "data/licence/detection"
_FRONT = re.compile(r"\A---\n.*?\n---\n", re.S)


class Case(NamedTuple):
    """A family: what the card says, which text is its licence file, what its parent ships."""

    name: str
    licence: str
    text: str
    parent: str
    parent_notice: str = ""
    more: str = ""


SC, AT, SX = "scancode_ai_licences/", "ai_licence_texts/", "spdx_simple/"
CASES = {
    "apache-with-notice": Case("support", "apache-2.0", SX + "Apache-2.0.txt", "acme/base", "Acme Base\nBy Acme Labs"),
    "mit": Case("support", "mit", AT + "mit__deepseek-r1.txt", "acme/base"),
    "llama-2": Case("support", "llama2", AT + "llama2.txt", "meta-llama/Llama-2-7b"),
    "llama-3": Case("Llama 3 support", "llama3", AT + "llama3.txt", "meta-llama/Meta-Llama-3-8B"),
    "llama-3.1": Case("Llama-3.1-support", "llama3.1", AT + "llama3.1.txt", "meta-llama/Llama-3.1-8B"),
    "gemma": Case("support", "gemma", SC + "gemma-tou-2025-03-24.LICENSE", "google/gemma-3-4b-pt"),
    "deepseek": Case("support", "other", AT + "deepseek-1.0.txt", "deepseek-ai/DeepSeek-V3"),
    "qwen": Case("support", "other", SC + "qwen-2024.LICENSE", "Qwen/Qwen2.5-72B"),
    "cc-by": Case("support", "cc-by-4.0", SX + "CC-BY-4.0.txt", "acme/base"),
    "openrail": Case("support", "openrail++", SC + "bigscience-open-rail-m2.LICENSE", "acme/base"),
    "bigcode": Case("support", "bigcode-openrail-m", SC + "bigcode-open-rail-m-v1.LICENSE", "bigcode/starcoder"),
    "kimi": Case("support", "other", AT + "kimi-k2-modified-mit.txt", "moonshotai/Kimi-K2-Base"),
    "stability": Case("support", "other", SC + "stability-ai-community-2024.LICENSE", "stabilityai/stable"),
    "nvidia": Case("support", "other", SC + "nvidia-open-model-2025-04-28.LICENSE", "nvidia/some"),
}


def text(shared: Path, name: str) -> str:
    """A licence text of the test data, without ScanCode's front matter."""
    return _FRONT.sub("", (shared / _TEXTS / name).read_text())


def made(shared: Path, case: Case, at: Path) -> tuple[Path, Path]:
    """The folders of a model and of its parent."""
    folder, parent = at / case.name, at / "parents" / case.parent.rpartition("/")[2]
    for place in (folder, parent):
        place.mkdir(parents=True)
        (place / "LICENSE").write_text(text(shared, case.text))
        (place / "model.safetensors").write_bytes(place.name.encode())
    (folder / "README.md").write_text(
        f"---\nlicense: {case.licence}\nbase_model: {case.parent}\n{case.more}---\n# Hi\n"
    )
    (parent / "README.md").write_text(f"---\nlicense: {case.licence}\n---\n# Parent\n")
    if case.parent_notice:
        (parent / "NOTICE").write_text(case.parent_notice)
    return folder, parent


class Answer(NamedTuple):
    status: int
    told: dict[str, Any]
    errors: str

    @property
    def duties(self) -> set[str]:
        return {d["duty"] for d in self.told["duties"]}

    @property
    def missing(self) -> set[str]:
        """Where something is missing."""
        return {m["where"] for m in self.told["missing"]}

    def of(self, duty: str) -> dict[str, Any]:
        return next(d for d in self.told["duties"] if d["duty"] == duty)


def duties(*arguments: str | Path) -> Answer:
    """`ecotone licence duties ... --json`, in this process."""
    done = CliRunner().invoke(app, ["licence", "duties", *map(str, arguments), "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Answer(done.exit_code, json.loads(done.stdout) if done.stdout.strip() else {}, done.stderr)
