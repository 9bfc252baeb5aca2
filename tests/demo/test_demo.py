"""`make demo` plays the whole product; a visitor must never see it fail."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import clean_environment, free_port

pytest.importorskip("torch", reason="needs the engine extra (torch, transformers, peft)")


@pytest.mark.slow
def test_all_nine_steps_pass_and_each_command_is_shown() -> None:
    play = Path(__file__).with_name("play.py")
    env = clean_environment(DEMO_PORT=str(free_port()))  # which no other test has, as one that it draws itself might
    done = subprocess.run([sys.executable, play], env=env, capture_output=True, text=True, timeout=1000)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert len(re.findall(r"^=== \d", done.stdout, re.M)) == 9
    assert len(re.findall(r"^\$ ", done.stdout, re.M)) > 20
