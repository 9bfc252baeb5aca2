"""A folder with weights that nobody reads, and the stand-in for vLLM on the path."""

import json
import os
import sys
from pathlib import Path

import pytest

FAKE = Path(__file__).with_name("fake_vllm.py")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("adapter")
    config = {"peft_type": "LORA", "r": 12, "lora_alpha": 8, "base_model_name_or_path": "demo/llama"}
    (found / "adapter_config.json").write_text(json.dumps(config))
    _empty(found / "adapter_model.safetensors")
    return found


@pytest.fixture
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in, found as `vllm`."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "vllm").write_text(f"#!{sys.executable}\n{FAKE.read_text()}")
    (programs / "vllm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    return programs / "vllm"


def weights(folder: Path) -> Path:
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}))
    (folder / "tokenizer.json").write_text("{}")
    _empty(folder / "model.safetensors")
    return folder


def _empty(file: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    file.write_bytes(len(header).to_bytes(8, "little") + header + b"\0" * 4)
