"""How fast two sets of weights are compared on one core, beside reading and hashing both files with sha256.

Prints a table and, as its last line, JSON: `compare_mb_s` (MB of both models' weights per second of the whole
`lineage compare`: fingerprints and all checks), `sha256_mb_s` (the same files in the same run), and the most
memory taken.

    OMP_NUM_THREADS=1 python benchmarks/lineage/compare.py [--layers 8] [--width 1024]
"""

import argparse
import hashlib
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from ecotone.lineage.comparing import compare
from ecotone.lineage.opening import fingerprint_of, open_weights


def write(path: Path, layers: int, width: int, seed: int, size: float) -> None:
    """A decoder of random weights plus a difference of a size, tensor by tensor, so that little memory is taken."""
    neurons, shapes = width * 8 // 3, {"model.embed_tokens.weight": (16_000, width), "lm_head.weight": (16_000, width)}
    for n in range(layers):
        for part in "qkvo":
            shapes[f"model.layers.{n}.self_attn.{part}_proj.weight"] = (width, width)
        shapes[f"model.layers.{n}.mlp.gate_proj.weight"] = shapes[f"model.layers.{n}.mlp.up_proj.weight"] = (
            neurons,
            width,
        )
        shapes[f"model.layers.{n}.mlp.down_proj.weight"] = (width, neurons)
    table, place = {}, 0
    for name, shape in shapes.items():
        count = shape[0] * shape[1] * 4
        table[name] = {"dtype": "F32", "shape": shape, "data_offsets": [place, place + count]}
        place += count
    head = json.dumps(table).encode()
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for number, shape in enumerate(shapes.values()):
            values = np.random.default_rng([number, 0]).standard_normal(shape, np.float32)
            if seed:
                values += np.float32(size) * np.random.default_rng([number, seed]).standard_normal(shape, np.float32)
            file.write(values.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=1024)
    asked = parser.parse_args()
    rows, answer = [], {}
    with tempfile.TemporaryDirectory() as folder:
        base, tuned, other = (Path(folder) / f"{n}.safetensors" for n in ("base", "tuned", "other"))
        for path, seed, size in ((base, 0, 0.0), (tuned, 1, 0.05), (other, 2, 50.0)):
            write(path, asked.layers, asked.width, seed, size)
        megabytes = 2 * base.stat().st_size / 1e6
        began = time.perf_counter()
        for path in (base, tuned):
            with path.open("rb") as file:
                hashlib.file_digest(file, "sha256")
        answer["sha256_mb_s"] = megabytes / (time.perf_counter() - began)
        for name, path in (("compare_mb_s", tuned), ("compare_unrelated_mb_s", other)):
            began = time.perf_counter()
            found = compare(open_weights(path), open_weights(base), prints=(fingerprint_of(path), fingerprint_of(base)))
            answer[name] = megabytes / (time.perf_counter() - began)
            rows.append(f"{name:24} {answer[name]:8.0f}   related: {found.related}, {found.relation}")
    answer["compare_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{megabytes:.0f} MB in two files; sha256 reads and hashes them at {answer['sha256_mb_s']:.0f} MB/s")
    print("\n".join(rows))
    print(json.dumps({n: round(v, 1) for n, v in answer.items()}))


if __name__ == "__main__":
    main()
