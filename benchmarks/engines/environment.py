"""An interpreter for the references, with our own torch and transformers and what only they need beside.

The environment reads the packages of the one that runs the benchmark through a path file, so that both sides compute
with the same build of torch; what `transformers serve` and sentence-transformers ask for on top goes into it alone.
"""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

FOLDER = Path(os.environ.get("ECOTONE_PEERS", Path(__file__).parents[2] / ".peers")) / "engine-references"
_PACKAGES = ("sentence-transformers==6.2.0", "fastapi", "uvicorn", "openai", "rich", "pydantic", "psutil")


def python() -> Path:
    """The interpreter; the environment is made at first use, which takes about a minute."""
    ready, wanted = FOLDER / "ready", " ".join((*_PACKAGES, sys.version))
    found = FOLDER / "bin" / "python"
    if not ready.exists() or ready.read_text() != wanted:
        print(f"installing {', '.join(_PACKAGES)} into {FOLDER}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", FOLDER], check=True)
        site = next((FOLDER / "lib").glob("python*/site-packages"))
        (site / "of_the_benchmark.pth").write_text(sysconfig.get_path("purelib") + "\n")
        subprocess.run([found, "-m", "pip", "install", "-q", *_PACKAGES], check=True)
        ready.write_text(wanted)
    return found
