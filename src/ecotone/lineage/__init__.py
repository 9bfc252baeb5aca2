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
from ecotone.lineage.generated import Generator
from ecotone.lineage.gguf import read_gguf
from ecotone.lineage.index import TensorIndex, TensorIndexer, index_safetensors, shared_share
from ecotone.lineage.safetensors import read_safetensors
from ecotone.lineage.shards import MOST_INDEX_BYTES, check_folder, files_of_index, is_plain
from ecotone.lineage.tensors import Parameters, TensorInfo, Weights, parameters

__all__ = [
    "MOST_INDEX_BYTES",
    "Architecture",
    "BrokenIndex",
    "BrokenWeights",
    "DeclaredEdge",
    "Generator",
    "Parameters",
    "TensorIndex",
    "TensorIndexer",
    "TensorInfo",
    "TooManyTensors",
    "Weights",
    "architecture",
    "check_folder",
    "declared_edges",
    "files_of_index",
    "index_safetensors",
    "is_plain",
    "parameters",
    "read_gguf",
    "read_safetensors",
    "shared_share",
]
