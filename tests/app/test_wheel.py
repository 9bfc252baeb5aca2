"""The wheel, installed by plain pip into an empty environment: light, alive in seconds, honest about what it lacks."""

import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.running import ADMIN, Running, clean_environment

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_gives_hub_licences_and_gateway_without_torch(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "build", "-w", "-o", tmp_path, ROOT], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    pip = tmp_path / "venv" / "bin" / "pip"
    subprocess.run([pip, "install", "-q", wheel], check=True, capture_output=True, env=clean_environment())
    packages = subprocess.run([pip, "list"], capture_output=True, text=True, check=True).stdout.lower()
    assert "torch" not in packages and "transformers" not in packages
    assert list(tmp_path.glob("venv/**/ecotone/licences/entries.msgpack")), "the knowledge base is not compiled"

    ecotone = tmp_path / "venv" / "bin" / "ecotone"
    home = Running(tmp_path / "home")
    began = time.monotonic()
    with open(home.log_file, "wb") as log:
        server = subprocess.Popen([ecotone, "up"], env=home.env, cwd=home.folder, stdout=log, stderr=log)
    home.process = server
    try:
        home.wait_until_it_answers(30)
        assert time.monotonic() - began < 30
        assert "<html" in httpx.get(home.url + "/").text
        header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        weights = len(header).to_bytes(8, "little") + header + bytes(4)
        card = b"---\nlicense: mit\n---\n"
        home.publish("demo/plain", {"README.md": card, "config.json": b"{}", "model.safetensors": weights})

        def run(*argv: str) -> "subprocess.CompletedProcess[str]":
            return subprocess.run([ecotone, *argv], env=home.env, capture_output=True, text=True)

        use = ("--mode", "serve_api", "--purpose", "commercial")
        assert run("licence", "check", "demo/plain", *use).returncode == 0
        assert run("project", "create", "shop", *use).returncode == 0
        key = run("key", "create", "--project", "shop").stdout.strip()
        models = httpx.get(home.url + "/v1/models", headers={"authorization": f"Bearer {key}"})
        assert models.json()["object"] == "list"
        for command, extra in (
            (("serve", "demo/plain"), "engine"),
            (("audit", "run", "demo/plain", "--suite", "weat"), "audit"),
        ):
            missing = run(*command)
            assert missing.returncode == 1
            assert f'pip install "ecotone[{extra}]"' in missing.stderr, missing.stderr
    finally:
        server.terminate()
        server.wait(30)
    assert ADMIN not in home.log
