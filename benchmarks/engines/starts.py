"""Cold start of MiniLM, ours to its first answer against plain transformers to its first vector; and death noticed."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import shelf
from ground import COMPUTE_CORE, OFFLINE, engine, load, median

_PLAIN = """
import sys, torch
from transformers import AutoModel, AutoTokenizer
tok, model = AutoTokenizer.from_pretrained(sys.argv[1]), AutoModel.from_pretrained(sys.argv[1]).eval()
with torch.inference_mode():
    model(**tok("A cat sat on the mat.", return_tensors="pt")).last_hidden_state.mean(dim=1).tolist()
"""


def measure(rounds: int) -> dict[str, float]:
    """Seconds of wall time, interleaved, after one start of each that warms the disk."""
    folder = shelf.model("minilm")
    ours, plain = list[float](), list[float]()
    for _ in range(rounds + 1):
        began = time.perf_counter()
        with engine("bench/minilm", folder) as server:
            body = {"model": server.model, "input": "A cat sat on the mat."}
            load(server, "/v1/embeddings", [body], 1, lambda answer: len(answer["data"]))
            ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", _PLAIN, str(folder)],
            check=True,
            env=os.environ | OFFLINE,
            preexec_fn=lambda: os.sched_setaffinity(0, {COMPUTE_CORE}),
        )
        plain.append(time.perf_counter() - began)
    print(f"  cold start of minilm: ours {median(ours[1:]):.2f} s, plain {median(plain[1:]):.2f} s", flush=True)
    ratios = [a / b for a, b in zip(ours[1:], plain[1:], strict=True)]
    return {"cold_start_vs_plain": median(ratios), "crash_noticed_s": _crash(folder)}


def _crash(folder: Path) -> float:
    """Seconds from the SIGKILL of a supervised engine until it is no more told to be ready."""
    from ecotone.engines.kinds.builtin import KIND
    from ecotone.engines.kinds.kind import Options, Spec
    from ecotone.engines.sockets import Sockets
    from ecotone.engines.supervision import Files, Pace, Supervised

    @contextlib.contextmanager
    def files():  # type: ignore[no-untyped-def]
        yield Files(folder)

    changed = threading.Event()
    with TemporaryDirectory() as work:
        spec = Spec(
            model="bench/minilm",
            revision="0" * 40,
            options=Options(),
            replica=0,
            sockets=Sockets(Path(work) / "run"),
            log_file=Path(work) / "log",
            root=Path(work),
        )
        supervised = Supervised(spec, files, kind=KIND, changed=changed.set, pace=Pace(), patient=False, adapters={})
        try:
            supervised.wait_ready(120)
            changed.clear()
            began = time.perf_counter()
            os.kill(supervised.pid or 0, signal.SIGKILL)
            changed.wait(30)
            seconds = time.perf_counter() - began
        finally:
            supervised.stop()
    print(f"  death of an engine noticed after {seconds:.3f} s", flush=True)
    return seconds
