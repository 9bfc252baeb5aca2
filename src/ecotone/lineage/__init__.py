"""What weights and cards say about a model's descent: headers, sizes, architecture, shared tensors, declared parents.

Pure: works on bytes and mappings that others read. Never unpickles, never imports a tensor library. Use as a library:

    with open("model.safetensors", "rb") as file:
        index = index_safetensors(iter(lambda: file.read(1 << 20), b""))
    index.parameters.total, index.parameters.by_dtype
    shared_share(index, other_index)      # 1.0: every large tensor of the first is in the other

    declared_edges({"base_model": "meta-llama/Llama-2-7b"})   # [DeclaredEdge(parent=..., relation=FINETUNE, ...)]
"""

from ecotone.lineage.architecture import Architecture, architecture
from ecotone.lineage.declared import DeclaredEdge, declared_edges
from ecotone.lineage.errors import BrokenIndex, BrokenWeights, TooManyTensors
from ecotone.lineage.fingerprint import Fingerprint, TensorPrint, unpacked
from ecotone.lineage.gguf import read_gguf
from ecotone.lineage.index import TensorIndex, TensorIndexer, index_safetensors, shared_share
from ecotone.lineage.opening import fingerprint_of, open_weights
from ecotone.lineage.printing import Fingerprinter
from ecotone.lineage.safetensors import read_safetensors
from ecotone.lineage.sampling import common
from ecotone.lineage.shards import MOST_INDEX_BYTES, check_folder, files_of_index, is_plain
from ecotone.lineage.sources import Source, Values
from ecotone.lineage.tensors import Parameters, TensorInfo, Weights, parameters

__all__ = [
    "MOST_INDEX_BYTES",
    "Architecture",
    "BrokenIndex",
    "BrokenWeights",
    "DeclaredEdge",
    "Fingerprint",
    "Fingerprinter",
    "Parameters",
    "Source",
    "TensorIndex",
    "TensorIndexer",
    "TensorInfo",
    "TensorPrint",
    "TooManyTensors",
    "Values",
    "Weights",
    "architecture",
    "check_folder",
    "common",
    "declared_edges",
    "files_of_index",
    "fingerprint_of",
    "index_safetensors",
    "is_plain",
    "open_weights",
    "parameters",
    "read_gguf",
    "read_safetensors",
    "shared_share",
    "unpacked",
]
