"""Makes the small files that fuzzing starts from, by the tools that others use: hf_xet, safetensors, gguf.

    python tests/fuzz/corpus/make.py

Each part is skipped where its tool is not installed.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def xet() -> None:
    import hf_xet

    dice = np.random.default_rng(7)
    contents = {
        "raw": dice.bytes(20_000),
        "text": b"The same sentence, many times over. " * 9_000,
        "floats": np.linspace(0, 1, 40_000, dtype="<f4").tobytes(),
        "zeros": bytes(300_000),
    }
    for name, data in contents.items():
        with tempfile.TemporaryDirectory() as folder:
            source, store = Path(folder) / "f", Path(folder) / "cas"
            source.write_bytes(data)
            store.mkdir()
            hf_xet.upload_files([str(source)], f"local://{store}", None, None, None, "model")
            for path in sorted(store.glob("xet/xorbs/xorbs/default.*")):
                if path.suffix != ".tagset":
                    shutil.copyfile(path, HERE / f"{name}.xorb")
            for path in sorted(store.glob("xet/xorbs/shards/*.mdb")):
                shutil.copyfile(path, HERE / f"{name}.shard")


def safetensors() -> None:
    from safetensors.numpy import save_file

    tensors = {
        "a": np.zeros((2, 3), "<f4"),
        "b.c": np.ones(5, "<f2"),
        "d": np.arange(4, dtype="<i8"),
        "e": np.zeros(0, "u1"),
    }
    save_file(tensors, HERE / "small.safetensors", metadata={"format": "np"})
    many = {f"layers.{n}.weight": np.full((1, n % 3 + 1), n, "<f4") for n in range(40)}
    save_file(many, HERE / "many.safetensors")


def gguf() -> None:
    from gguf import GGMLQuantizationType, GGUFWriter

    writer = GGUFWriter(str(HERE / "small.gguf"), "llama")
    writer.add_block_count(2)
    writer.add_string("general.name", "small")
    writer.add_float32("a.float", 0.5)
    writer.add_bool("a.flag", True)
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_token_list(["<s>", "a", "b"])
    writer.add_tensor("token_embd.weight", np.zeros((4, 8), "<f4"))
    writer.add_tensor("half.weight", np.ones((2, 4), "<f2"))
    writer.add_tensor("q.weight", np.zeros((2, 34), "u1"), raw_dtype=GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    for make in (xet, safetensors, gguf):
        with contextlib.suppress(ImportError):
            make()
