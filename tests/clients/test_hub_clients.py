"""Unmodified clients from PyPI, today's (Xet) and an old one (LFS): what one sends, the other gets back whole."""

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.environments import environment
from tests.running import ADMIN, Running, clean_environment, running

CLIENTS = ("hub-2.4", "hub-0.36")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("clients")) as found:
        yield found


def folder_of(at: Path, card: str = "license: apache-2.0") -> Path:
    """A model folder with weights of some megabytes."""
    at.mkdir(parents=True)
    size = 6_000_000
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    (at / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + os.urandom(size))
    (at / "config.json").write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    (at / "README.md").write_text(f"---\n{card}\n---\n# A model\n")
    (at / "sub").mkdir()
    (at / "sub" / "tokens.txt").write_text("a\nb\n")
    return at


def hf(server: Running, client: str, home: Path, *argv: str) -> "subprocess.CompletedProcess[str]":
    env = clean_environment(
        HF_ENDPOINT=server.url, HF_TOKEN=ADMIN, HF_HOME=str(home), HF_HUB_DISABLE_TELEMETRY="1", NO_COLOR="1"
    )
    return subprocess.run([environment(client) / "hf", *argv], env=env, capture_output=True, text=True, timeout=280)


def digest(folder: Path) -> dict[str, str]:
    return {
        str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(folder.rglob("*"))
        if f.is_file() and ".cache" not in f.parts
    }


@pytest.mark.parametrize("sender", CLIENTS)
def test_the_same_bytes_come_back_to_each_client(server: Running, tmp_path: Path, sender: str) -> None:
    source = folder_of(tmp_path / "model")
    repo = f"demo/from-{sender}"
    up = hf(server, sender, tmp_path / "home", "upload", repo, str(source))
    assert up.returncode == 0, up.stdout + up.stderr
    for receiver in CLIENTS:
        back = tmp_path / f"back-{receiver}"
        down = hf(server, receiver, tmp_path / f"home-{receiver}", "download", repo, "--local-dir", str(back))
        assert down.returncode == 0, down.stdout + down.stderr
        got = digest(back)
        assert {k: v for k, v in got.items() if k != ".gitattributes"} == digest(source)


@pytest.mark.slow
def test_weights_sent_before_can_be_sent_again_elsewhere(tmp_path: Path) -> None:
    """hf_xet remembers for weeks what it sent; neither another namespace nor a new installation has it."""
    source, home = folder_of(tmp_path / "model"), tmp_path / "home"
    with running(tmp_path / "first") as first:
        for repo in ("demo/weights", "prod/weights", "demo/weights-again"):
            up = hf(first, "hub-2.4", home, "upload", repo, str(source))
            assert up.returncode == 0, (repo, up.stdout + up.stderr)
    second = Running(tmp_path / "second")
    second.port, second.url = first.port, first.url
    second.env |= {"ECOTONE_PORT": str(first.port), "ECOTONE_URL": first.url}
    try:
        second.start()
        up = hf(second, "hub-2.4", home, "upload", "demo/weights", str(source))
        assert up.returncode == 0, up.stdout + up.stderr
        down = hf(second, "hub-2.4", tmp_path / "other", "download", "demo/weights", "--local-dir", f"{tmp_path}/back")
        assert down.returncode == 0
        assert (tmp_path / "back" / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    finally:
        second.stop()


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_a_refusal_prints_licence_and_clause(server: Running, tmp_path: Path, client: str) -> None:
    claim = folder_of(tmp_path / "model", card="license: mit\nbase_model: meta-llama/Llama-2-7b")
    up = hf(server, client, tmp_path / "home", "upload", f"demo/claim-{client}", str(claim))
    said = up.stdout + up.stderr
    assert up.returncode != 0
    assert "Llama 2" in said and "1.b" in said
    seen = hf(server, client, tmp_path / "home", "download", f"demo/claim-{client}", "model.safetensors")
    assert seen.returncode != 0, "nothing of a refused upload may be visible"
