"""Virtual environments of real clients, each made once from PyPI and kept in `.clients/` beside the sources.

An environment that needs torch borrows that of the tests' own environment: some hundred megabytes less each.
"""

import contextlib
import fcntl
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
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
    "vllm": [
        *("transformers==5.19.0", "huggingface_hub==2.4.0", TORCH, "aiohttp", "apache-tvm-ffi", "cachetools", "cbor2"),
        *("cloudpickle", "einops", "fastapi", "llguidance", "msgspec", "openai", "openai-harmony", "pillow", "psutil"),
        *("partial-json-parser", "prometheus_client", "py-cpuinfo", "pybase64", "pyzmq", "requests", "uvloop"),
    ],
    "inference-0.36": ["huggingface_hub==0.36.2", "requests", "numpy"],
    "inference-2.4": ["huggingface_hub==2.4.0", "numpy"],
    "openai": ["openai"],
    "openai-suite": [
        *("openai[aiohttp,realtime]==3.54.0", "pytest>=9", "pytest-asyncio>=1.4", "inline-snapshot", "pytest-xdist"),
        *("rich", "httpx2", "respx", "Pillow", "trio"),
    ],
}
# Installed without what they ask for, which is several gigabytes for a GPU. vLLM's build for TPUs has the same Python
# modules as that for GPUs and nothing compiled for these: 11 MB instead of some hundred. Its wheel is marked for 3.12.
ALONE = {"vllm": (("vllm-tpu==0.32.0", "--python-version", "3.12"), ("xgrammar==0.2.8",))}


def environment(name: str) -> Path:
    """The `bin` folder of an environment; made by one process at a time, which others wait for who want the same."""
    with _alone(name):
        return _made(name, FOLDER / name)


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / f"{name}.lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _made(name: str, folder: Path) -> Path:
    wanted = " ".join([*PACKAGES[name], *(word for package in ALONE.get(name, ()) for word in package)])
    ready = folder / "ready"
    if not ready.exists() or ready.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        if TORCH in PACKAGES[name]:
            with _alone("torch"):
                borrow_torch(folder)
        pip = [sys.executable, "-m", "pip", "--python", folder / "bin" / "python", "install", "-qq", "--no-compile"]
        subprocess.run([*pip, *PACKAGES[name]], check=True, stdout=subprocess.DEVNULL)
        for package in ALONE.get(name, ()):
            only = ["--no-deps", "--only-binary", ":all:", "--target", packages_of(folder)]
            subprocess.run([*pip, *only, *package], check=True, stdout=subprocess.DEVNULL)
        ready.write_text(wanted)
    return folder / "bin"


def borrow_torch(folder: Path) -> None:
    """Let an environment find the torch of this one, when it is the version wanted.

    By a path file, to a folder of links that lies outside of that environment: pip sees torch there, and never removes
    or overwrites what is not inside the environment that it works on. Links inside of it would lead pip into this one.
    """
    try:
        found = distribution("torch")
    except PackageNotFoundError:
        return
    if found.version.partition("+")[0] != TORCH.partition("==")[2]:
        return
    links, here = FOLDER / "torch", Path(sysconfig.get_path("purelib"))
    links.mkdir(parents=True, exist_ok=True)
    for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
        if not (links / top).exists():
            (links / top).unlink(missing_ok=True)
            (links / top).symlink_to(here / top)
    (packages_of(folder) / "borrowed.pth").write_text(f"{links}\n")


def packages_of(folder: Path) -> Path:
    """The folder into which an environment's packages are installed."""
    return Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))


if __name__ == "__main__":
    for name in sys.argv[1:] or PACKAGES:
        print(environment(name))
