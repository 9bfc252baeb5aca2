"""How fast weights are fingerprinted, against hashlib's sha256 of the same bytes on the same core.

Files of real shapes are made: layers of a LLaMA of 7 billion in BF16, the same as Q4_K GGUF, and an adapter of many
small tensors. Both read the file from the page cache in chunks of 1 MiB, on one thread, in turns; the figure is CPU
time, best third of the rounds. Prints a table, and as its last line JSON; `fingerprint_vs_sha256` is sha256's time over
ours, of the file where that is least (1 and more: not slower). Each tensor costs some 20 microseconds whatever its
size, so a toy model of 1 MB is told apart, as `fingerprint_vs_sha256_toy`. Needs Linux (peak of memory of a child).

    python benchmarks/lineage/fingerprint.py [--rounds 9] [--layers 2]
"""

import argparse
import hashlib
import json
import os
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path

from ecotone.lineage import Fingerprinter

CHUNK = 1 << 20
BAR = 1.0
LLAMA = {
    "self_attn.q_proj": (4096, 4096), "self_attn.k_proj": (4096, 4096), "self_attn.v_proj": (4096, 4096),
    "self_attn.o_proj": (4096, 4096), "mlp.gate_proj": (11008, 4096), "mlp.up_proj": (11008, 4096),
    "mlp.down_proj": (4096, 11008), "input_layernorm": (4096,), "post_attention_layernorm": (4096,),
}  # fmt: skip
GGUF = {
    "attn_q": (4096, 4096), "attn_k": (4096, 4096), "attn_v": (4096, 4096), "attn_output": (4096, 4096),
    "ffn_gate": (11008, 4096), "ffn_up": (11008, 4096), "ffn_down": (4096, 11008),
}  # fmt: skip
PEAK = """
import sys
from pathlib import Path
from ecotone.lineage import fingerprint_of
peak = lambda: next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
before = peak()
fingerprint_of(Path(sys.argv[1]))
print((peak() - before) / 1024)
"""
Q4_K = (12, 256, 144)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--layers", type=int, default=2, help="of the large files; about 400 MB each in BF16")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "llama, BF16": layers(Path(folder) / "llama.safetensors", chosen.layers),
            "llama, Q4_K": blocks(Path(folder) / "llama.gguf", chosen.layers),
            "adapter": adapter(Path(folder) / "adapter.safetensors"),
            "toy": toy(Path(folder) / "toy.safetensors"),
        }
        found = {name: measured(file, chosen.rounds) for name, file in files.items()}
    for name, row in found.items():
        print(f"{name:14}", *(f"{key} {value:,.2f}" for key, value in row.items()), sep="  ")
    least = min(row["ratio"] for name, row in found.items() if name != "toy")
    print(
        json.dumps(
            {
                "fingerprint_vs_sha256": round(least, 2),
                "fingerprint_vs_sha256_large": round(found["llama, BF16"]["ratio"], 2),
                "fingerprint_vs_sha256_toy": round(found["toy"]["ratio"], 2),
                "fingerprint_mb_s": round(found["llama, BF16"]["fingerprint_mb_s"]),
                "sha256_mb_s": round(found["llama, BF16"]["sha256_mb_s"]),
                "fingerprint_peak_mb": round(max(row["more_memory_mb"] for row in found.values()), 1),
            }
        )
    )
    return least < BAR


def measured(file: Path, rounds: int) -> dict[str, float]:
    """Megabytes a second of both, their ratio, and by how much fingerprinting raises a process's peak of memory."""
    size = file.stat().st_size
    times: dict[Callable[[Path], object], list[float]] = {fingerprinted: [], hashed: []}
    for _ in range(rounds):
        for act, taken in times.items():
            began = time.process_time()
            act(file)
            taken.append(time.process_time() - began)
    ours, theirs = (statistics.median(sorted(t)[: max(1, rounds // 3)]) for t in times.values())
    return {
        "ratio": theirs / ours,
        "fingerprint_mb_s": size / ours / 1e6,
        "sha256_mb_s": size / theirs / 1e6,
        "size_mb": size / 1e6,
        "more_memory_mb": more_memory(file),
    }


def more_memory(file: Path) -> float:
    done = subprocess.run([sys.executable, "-c", PEAK, file], capture_output=True, text=True, check=True)
    return float(done.stdout)


def chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb", buffering=0) as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def fingerprinted(file: Path) -> object:
    printer = Fingerprinter(file.stat().st_size)
    for chunk in chunks(file):
        printer.feed(chunk)
    return printer.finish()


def hashed(file: Path) -> object:
    digest = hashlib.sha256()
    for chunk in chunks(file):
        digest.update(chunk)
    return digest.digest()


def layers(file: Path, count: int) -> Path:
    return safetensors(
        file, {f"model.layers.{i}.{name}.weight": shape for i in range(count) for name, shape in LLAMA.items()}
    )


def adapter(file: Path) -> Path:
    """A LoRA of rank 16 on the seven projections of 32 layers: 448 tensors of 128 to 352 KB."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in range(32):
        for name, shape in LLAMA.items():
            if len(shape) == 2:
                shapes[f"base_model.model.model.layers.{i}.{name}.lora_A.weight"] = (16, shape[1])
                shapes[f"base_model.model.model.layers.{i}.{name}.lora_B.weight"] = (shape[0], 16)
    return safetensors(file, shapes)


def toy(file: Path) -> Path:
    """Four layers of width 96: 30 matrices of 18 to 49 KB in BF16."""
    shapes: dict[str, tuple[int, ...]] = {
        f"model.layers.{i}.{name}.weight": tuple({4096: 96, 11008: 256}[n] for n in shape)
        for i in range(4)
        for name, shape in LLAMA.items()
    }
    return safetensors(file, shapes | {"model.embed_tokens.weight": (256, 96), "lm_head.weight": (256, 96)})


def safetensors(file: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    table, place = {}, 0
    for name, shape in shapes.items():
        end = place + 2 * prod(shape)
        table[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [place, end]}
        place = end
    header = json.dumps(table).encode()
    with file.open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        filled(stream.write, place)
    return file


def blocks(file: Path, count: int) -> Path:
    kind, size, width = Q4_K
    head, place = text("general.architecture") + struct.pack("<I", 8) + text("llama"), 0
    for key, number in (("llama.attention.head_count", 32), ("general.alignment", 32)):
        head += text(key) + struct.pack("<II", 4, number)
    tensors = [(f"blk.{i}.{name}.weight", shape) for i in range(count) for name, shape in GGUF.items()]
    for name, shape in tensors:
        head += text(name) + struct.pack("<IQQIQ", 2, shape[1], shape[0], kind, place)
        place += prod(shape) // size * width
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 3) + head
    with file.open("wb") as stream:
        stream.write(head.ljust(-(-len(head) // 32) * 32, b"\0"))
        filled(stream.write, place)
    return file


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def filled(write: Callable[[bytes], object], size: int) -> None:
    """So many bytes of noise; it repeats after a length that no tensor has."""
    noise = os.urandom((8 << 20) - 4099)
    while size > 0:
        write(noise[:size])
        size -= len(noise)


if __name__ == "__main__":
    sys.exit(main())
