"""Upload and download rates of real clients for one large file, against a plain copy of the same file.

    make bench-hub

Starts `ecotone up` in a temporary folder; the client is this environment's huggingface_hub, once with Xet and once with
`HF_HUB_DISABLE_XET=1` (LFS), and curl for plain HTTP. Rounds are interleaved; the best of each is compared.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

CLIENT = """
import sys, time
from huggingface_hub import HfApi, hf_hub_download
what, repo, path = sys.argv[1:4]
if what == "up":
    HfApi().create_repo(repo, exist_ok=True)
began = time.perf_counter()
if what == "up":
    HfApi().upload_file(path_or_fileobj=path, path_in_repo="model.bin", repo_id=repo)
else:
    hf_hub_download(repo, "model.bin", local_dir=path)
print(time.perf_counter() - began)
"""


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def measure(mib: int, rounds: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        token = "benchmark-admin-token"
        env = {**os.environ, "ECOTONE_DATA": f"{folder}/data", "ECOTONE_PORT": str(port), "ECOTONE_ADMIN_TOKEN": token}
        server = subprocess.Popen([Path(sys.executable).parent / "ecotone", "up"], env=env, stderr=subprocess.DEVNULL)
        times: dict[str, list[float]] = {}
        try:
            wait(url)
            for number in range(rounds):
                source = folder / "model.bin"
                with open(source, "wb") as out:
                    for _ in range(mib):
                        out.write(os.urandom(1024 * 1024))
                times.setdefault("copy", []).append(timed(lambda s=source: copy(s, folder / "copy.bin")))
                for kind, off in (("xet", "0"), ("lfs", "1")):
                    repo, back = f"bench-{kind}/{number}", folder / f"back-{kind}"
                    client = {
                        **os.environ,
                        "HF_ENDPOINT": url,
                        "HF_TOKEN": token,
                        "HF_HOME": f"{folder}/hf-{kind}-{number}",
                        "HF_HUB_DISABLE_XET": off,
                        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                    }
                    times.setdefault(f"{kind}_up", []).append(run(client, "up", repo, str(source)))
                    times.setdefault(f"{kind}_down", []).append(run(client, "down", repo, str(back)))
                    if (back / "model.bin").stat().st_size != source.stat().st_size:
                        raise SystemExit("the download is not whole")
                    shutil.rmtree(back)
                    at = f"{url}/{repo}/resolve/main/model.bin"
                    curl = ["curl", "-sSfL", "-H", f"Authorization: Bearer {token}", "-o", str(folder / "curl.bin"), at]
                    times.setdefault(f"{kind}_curl", []).append(timed(lambda c=curl: subprocess.run(c, check=True)))
                    shutil.rmtree(f"{folder}/hf-{kind}-{number}", ignore_errors=True)
        finally:
            server.terminate()
            server.wait()
    rates = {name: round(mib * 1.048576 / min(values), 1) for name, values in times.items()}
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "mib": mib,
        "mb_per_second": rates,
        "ratio_to_copy": {k: round(v / rates["copy"], 4) for k, v in rates.items() if k != "copy"},
    }


def copy(source: Path, target: Path) -> None:
    """A plain copy, flushed to disk as the hub flushes what it takes."""
    with open(source, "rb") as a, open(target, "wb") as b:
        shutil.copyfileobj(a, b, 1024 * 1024)
        b.flush()
        os.fsync(b.fileno())


def run(env: dict[str, str], *argv: str) -> float:
    done = subprocess.run([sys.executable, "-c", CLIENT, *argv], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


def wait(url: str) -> None:
    for _ in range(300):
        try:
            urllib.request.urlopen(url + "/health", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not answer")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(json.dumps(measure(args.mib, args.rounds)))
