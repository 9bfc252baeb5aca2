"""Other gateways as their makers publish them, each in an environment of its own that is made at first use.

Environments are kept in `.peers/` beside the sources, or where ECOTONE_PEERS says. Sizes as installed from PyPI for
Python 3.11 on x86-64: vllm-router 120 MB, tensorzero 148 MB, litellm with what its proxy asks for 622 MB.

Each peer runs without what would cost it most: no database, no log of requests, no metrics pushed. LiteLLM checks its
master key, the others no key at all.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from importlib import metadata
from pathlib import Path

from ground import GATEWAY_CORE, Place, free_port, process, program
from texts import chat

FOLDER = Path(os.environ.get("ECOTONE_PEERS", Path(__file__).parents[2] / ".peers"))
PACKAGES = {"litellm": "litellm==1.109.1", "tensorzero": "tensorzero==2026.6.0", "vllm-router": "vllm-router==0.1.17"}
RUST = ("vllm-router", "tensorzero")
_START_SECONDS = 120.0


def environment(name: str) -> Path:
    """The `bin` folder of a peer's environment; made when it is absent, which takes half a minute to some minutes."""
    folder, wanted = FOLDER / name, PACKAGES[name]
    ready = folder / "ready"
    if not ready.exists() or ready.read_text() != wanted:
        print(f"installing {wanted} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(folder / "bin" / "pip"), "install", "-q", "--no-compile"]
        subprocess.run([*pip, wanted], check=True)
        if name == "litellm":
            subprocess.run([*pip, *_proxy_requirements(folder)], check=True)
        ready.write_text(wanted)
    return folder / "bin"


def _proxy_requirements(folder: Path) -> list[str]:
    """What LiteLLM's extra `proxy` asks for, except the exact versions of its companions, which registries may lack.

    The companions hold migrations of its database and what is sold; the proxy of the benchmark uses neither.
    """
    lib = next((folder / "lib").glob("python*/site-packages"))
    found = next(iter(metadata.distributions(name="litellm", path=[str(lib)]))).requires or []
    wanted = []
    for line in found:
        spec, _, condition = line.partition(" ; ")
        if "extra == 'proxy'" not in condition:
            continue
        rest = condition.replace(" and extra == 'proxy'", "").replace("extra == 'proxy'", "")
        name = spec.partition("==")[0] if spec.startswith("litellm-") else spec
        wanted.append(f"{name} ; {rest}" if rest else name)
    return wanted


@contextlib.contextmanager
def litellm(folder: Path, upstream: Place) -> Iterator[Place]:
    port, key = free_port(), "sk-benchmark-master-key"
    model = {"model": "openai/gpt-4o", "api_base": f"http://127.0.0.1:{upstream.port}/v1", "api_key": "sk-provider"}
    told = {
        "model_list": [{"model_name": "bench", "litellm_params": model}],
        "general_settings": {"master_key": key},
        "litellm_settings": {"telemetry": False},
    }
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(told))  # JSON is YAML
    argv = [str(environment("litellm") / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    argv += ["--port", str(port), "--num_workers", "1"]
    quiet = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_DOCS": "True"}
    with process(argv, GATEWAY_CORE, folder / "litellm.log", **quiet) as child:
        place = Place("litellm", port, child.pid, headers={"authorization": f"Bearer {key}"})
        place.wait(chat(place.model), _START_SECONDS, child)
        yield place


_TENSORZERO = """
import sys, time
from pathlib import Path
from tensorzero import _start_http_gateway
running = _start_http_gateway(config_file=sys.argv[1], clickhouse_url=None, postgres_url=None, valkey_url=None,
                              async_setup=False)
Path(sys.argv[2]).write_text(running.base_url)
while True:
    time.sleep(3600)
"""


@contextlib.contextmanager
def tensorzero(folder: Path, upstream: Place) -> Iterator[Place]:
    """The gateway that the Python package carries; it chooses its own port and writes its address to a file."""
    config, told = folder / "tensorzero.toml", folder / "tensorzero.url"
    config.write_text(
        "[gateway]\nobservability.enabled = false\n"
        '[models.bench]\nrouting = ["provider"]\n'
        '[models.bench.providers.provider]\ntype = "openai"\nmodel_name = "bench"\n'
        f'api_base = "http://127.0.0.1:{upstream.port}/v1/"\napi_key_location = "none"\n'
    )
    argv = [str(environment("tensorzero") / "python"), "-c", _TENSORZERO, str(config), str(told)]
    with process(argv, GATEWAY_CORE, folder / "tensorzero.log") as child:
        while not (told.exists() and told.read_text()):
            if child.poll() is not None:
                raise SystemExit((folder / "tensorzero.log").read_text()[-2000:])
        port = int(told.read_text().split("//")[1].split("/")[0].rsplit(":", 1)[1])
        place = Place(
            "tensorzero", port, child.pid, path="/openai/v1/chat/completions", model="tensorzero::model_name::bench"
        )
        place.wait(chat(place.model), _START_SECONDS, child)
        yield place


@contextlib.contextmanager
def vllm_router(folder: Path, upstream: Place) -> Iterator[Place]:
    port = free_port()
    argv = [str(environment("vllm-router") / "vllm-router"), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--worker-urls", f"http://127.0.0.1:{upstream.port}", "--policy", "round_robin", "--log-level", "error"]
    argv += ["--worker-startup-check-interval", "1", "--prometheus-host", "127.0.0.1"]
    argv += ["--prometheus-port", str(free_port())]
    with process(argv, GATEWAY_CORE, folder / "vllm-router.log") as child:
        place = Place("vllm-router", port, child.pid)
        place.wait(chat(place.model), _START_SECONDS, child)
        yield place


@contextlib.contextmanager
def nginx(
    folder: Path, upstream: Place, core: int = GATEWAY_CORE, keys: tuple[str, ...] = ("eck_nginx",)
) -> Iterator[Place]:
    """`proxy_pass` over kept connections; keys are checked by a map, the provider's is put in their place."""
    port = free_port()
    known = " ".join(f'"Bearer {key}" 1;' for key in keys)
    config = folder / "nginx.conf"
    config.write_text(
        f"{'user root;' if os.getuid() == 0 else ''} worker_processes 1; daemon off;\n"
        f"pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
        "events { worker_connections 8192; }\n"
        "http { access_log off; keepalive_requests 1000000000; client_max_body_size 64m;\n"
        "client_body_buffer_size 256k; proxy_buffering off;\n"
        + "".join(
            f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f"map $http_authorization $known {{ default 0; {known} }}\n"
        f"upstream provider {{ server 127.0.0.1:{upstream.port}; keepalive 256; keepalive_requests 1000000000; }}\n"
        f"server {{ listen 127.0.0.1:{port} backlog=4096;\n"
        "location / { if ($known = 0) { return 401; } proxy_pass http://provider; proxy_http_version 1.1;\n"
        'proxy_set_header Connection ""; proxy_set_header Authorization "Bearer sk-provider"; } } }\n'
    )
    argv = [program("nginx", "nginx-light"), "-c", str(config), "-p", str(folder)]
    with process(argv, core, folder / "nginx.out") as child:
        place = Place("nginx", port, child.pid, headers={"authorization": f"Bearer {keys[0]}"})
        place.wait(chat(place.model), 10, child)
        yield place


PEERS: dict[str, Callable[[Path, Place], AbstractContextManager[Place]]] = {
    "vllm-router": vllm_router,
    "tensorzero": tensorzero,
    "litellm": litellm,
}

if __name__ == "__main__":
    for one in sys.argv[1:] or PACKAGES:
        print(environment(one))
