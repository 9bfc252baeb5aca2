"""Virtual environments of real clients, each made once from PyPI and kept in `.clients/` beside the sources.

An environment that needs torch borrows the one of the environment that runs the tests: some hundred megabytes less each.
"""

import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".clients"
TORCH = "torch==2.13.0"
PACKAGES = {
    "hub-0.36": ["huggingface_hub==0.36.2", "requests"],
    "hub-1.19": ["huggingface_hub==1.19.0"],
    "hub-1.33": ["huggingface_hub==1.33.0"],
    "hub-2.4": ["huggingface_hub==2.4.0"],
    "transformers-4": ["transformers==4.57.6", "huggingface_hub==0.36.2", TORCH],
    "transformers-5": ["transformers==5.24.0", "huggingface_hub==2.4.0", TORCH],
    "datasets-4": ["datasets==4.5.0", "huggingface_hub==0.36.2"],
    "datasets-5": ["datasets==5.2.0", "huggingface_hub==2.4.0"],
    "openai": ["openai"],
}


def environment(name: str) -> Path:
    """The `bin` folder of an environment."""
    folder = FOLDER / name
    wanted = " ".join(PACKAGES[name])
    ready = folder / "ready"
    if not ready.exists() or ready.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        if TORCH in PACKAGES[name]:
            borrow("torch", folder)
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "-q", "--no-compile"]
        subprocess.run([*pip, "--disable-pip-version-check", *PACKAGES[name]], check=True, stdout=subprocess.DEVNULL)
        ready.write_text(wanted)
    return folder / "bin"


def borrow(package: str, folder: Path) -> None:
    """Link a package of this environment, with its metadata, into another; nothing where this one has none."""
    try:
        found = distribution(package)
    except PackageNotFoundError:
        return
    here = Path(sysconfig.get_path("purelib"))
    there = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    tops = {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}
    for top in tops:
        (there / top).symlink_to(here / top)


if __name__ == "__main__":
    for name in sys.argv[1:] or PACKAGES:
        print(environment(name))
