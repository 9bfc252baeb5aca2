"""Files that tasks send: weights in safetensors, folders of a model, and what lies in a folder."""

import hashlib
import json
import os
from pathlib import Path

CARD = "---\nlicense: apache-2.0\npipeline_tag: text-classification\n---\n# A model\n"


def weights(size: int, *, name: str = "w", salt: bytes = b"") -> bytes:
    """A safetensors file with one tensor of `size` random bytes."""
    header = json.dumps({name: {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + salt + os.urandom(size - len(salt))


def model_folder(at: Path, size: int = 2_000_000) -> Path:
    """Card, configuration, weights, an empty file and one in a folder."""
    write(at / "README.md", CARD.encode())
    write(at / "config.json", b'{"architectures": ["BertModel"], "model_type": "bert"}')
    write(at / "model.safetensors", weights(size))
    write(at / "sub" / "words.txt", b"a\nb\n")
    write(at / "empty.txt", b"")
    return at


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """sha256 of each file, by its path; without what clients and the hub add."""
    return {
        file.relative_to(folder).as_posix(): sha256(file)
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not {".cache", ".git"} & set(file.parts) and file.name != ".gitattributes"
    }
