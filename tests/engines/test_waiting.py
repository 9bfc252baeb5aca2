import os
import subprocess
import sys

import pytest

_ASK = """
import ecotone.engines.server.__main__, ecotone.engines.server.folders
assert "libgomp" not in open("/proc/self/maps").read()
ecotone.engines.server.__main__.waits_without_spinning()
import torch
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and asks GNU's OpenMP")
def test_threads_that_wait_leave_the_cores_to_others() -> None:
    """libgomp reads its variables when it is loaded; what was loaded before they are set would spin."""
    pytest.importorskip("torch", reason="needs the engine extra (torch, transformers)")
    told = subprocess.run(
        [sys.executable, "-c", _ASK],
        env={**os.environ, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    if "GOMP_SPINCOUNT" not in told.stderr:
        pytest.skip("torch is built with another OpenMP here")
    assert "GOMP_SPINCOUNT = '0'" in told.stderr
