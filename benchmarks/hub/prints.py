"""What fingerprints add to an upload: weights, and the same bytes behind a first byte that no weight file has.

python benchmarks/hub/prints.py [MIB] [ROUNDS]
"""

import json
import os
import struct
import sys
import tempfile
from pathlib import Path

import ground
import numpy as np
from ground import MIB, best_third, interleaved

TENSORS = 64


def weights(path: Path, size: int, *, real: bool) -> Path:
    """Random float16 matrices in a safetensors file, or what looks like none."""
    rows = size // TENSORS // 2 // 2048
    described = {
        f"model.layers.{number}.mlp.up_proj.weight": {
            "dtype": "F16",
            "shape": [rows, 2048],
            "data_offsets": [number * rows * 4096, (number + 1) * rows * 4096],
        }
        for number in range(TENSORS)
    }
    header = json.dumps(described).encode()
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(header)) + (header if real else b"[" + header[1:]))
        for _ in range(TENSORS):
            left = rows * 4096
            while left:
                piece = np.frombuffer(os.urandom(min(MIB, left)), "<u2") & 0xBBFF  # no value is NaN or infinite
                out.write(piece.tobytes())
                left -= piece.nbytes
    return path


def main() -> None:
    mib, rounds = int((sys.argv[1:] or ["256"])[0]), int((sys.argv[2:] or ["6"])[0])
    times: dict[str, tuple[list[float], list[float]]] = {}
    with tempfile.TemporaryDirectory() as place, ground.ecotone(Path(place) / "data") as hub:
        folder = Path(place)

        def once(xet: bool, real: bool) -> float:
            number = sum(len(side) for pair in times.values() for side in pair)
            path = weights(folder / "w", mib * MIB, real=real)
            repo = f"prints/n{number}-{'x' if xet else 'l'}{'w' if real else 'p'}"
            return hub.timed("up", repo, path, folder / f"home-{number}", xet=xet)

        for _ in range(rounds):
            interleaved(
                {
                    "lfs": (lambda: once(False, True), lambda: once(False, False)),
                    "xet": (lambda: once(True, True), lambda: once(True, False)),
                },
                times,
            )
    found = {}
    for name, (with_prints, without) in times.items():
        found[f"{name}_with_mb_s"] = round(mib * MIB / 1e6 / best_third(with_prints), 1)
        found[f"{name}_without_mb_s"] = round(mib * MIB / 1e6 / best_third(without), 1)
        found[f"{name}_ratio"] = round(best_third(with_prints) / best_third(without), 3)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
