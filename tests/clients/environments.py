"""Virtual environments of real clients, each made once from PyPI and kept in `.clients/` beside the sources."""

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".clients"
PACKAGES = {
    "hub-0.36": ["huggingface_hub==0.36.2", "requests"],
    "hub-2.4": ["huggingface_hub==2.4.0"],
    "openai": ["openai"],
}


def environment(name: str) -> Path:
    """The `bin` folder of an environment."""
    folder = FOLDER / name
    wanted = " ".join(PACKAGES[name])
    ready = folder / "ready"
    if not ready.exists() or ready.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [folder / "bin" / "pip", "install", "-q", "--disable-pip-version-check"]
        subprocess.run([*pip, *PACKAGES[name]], check=True, capture_output=True)
        ready.write_text(wanted)
    return folder / "bin"
