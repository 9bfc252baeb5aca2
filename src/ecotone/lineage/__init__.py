"""What weights and cards say about a model's descent: weights read tensor by tensor, fingerprints, declared parents.

Pure: works on files, bytes and mappings. Never unpickles, never imports a tensor library. Use as a library:

    source = open_weights(Path("model"))          # a folder or a file, safetensors or GGUF
    source.architecture, source.tensors
    source.read("model.layers.0.self_attn.q_proj.weight")     # float32, dequantised where it is quantised

    fingerprint = fingerprint_of(Path("model"))   # or a Fingerprinter, fed while the bytes arrive
    mine, theirs = common(fingerprint.tensors[name], other.tensors[name])      # values of the cells that both sampled

    declared_edges({"base_model": "meta-llama/Llama-2-7b"})   # [DeclaredEdge(parent=..., relation=FINETUNE, ...)]
"""

from ecotone.lineage.architecture import Architecture, architecture
from ecotone.lineage.declared import DeclaredEdge, declared_edges
from ecotone.lineage.errors import BrokenIndex, BrokenWeights, PickledWeights, TooManyTensors
from ecotone.lineage.fingerprint import Fingerprint, TensorPrint, unpacked
from ecotone.lineage.generated import Generator
from ecotone.lineage.gguf import read_gguf
from ecotone.lineage.opening import fingerprint_of, open_weights
from ecotone.lineage.printing import Fingerprinter
from ecotone.lineage.safetensors import read_safetensors
from ecotone.lineage.sampling import common, thinned
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
    "Generator",
    "Parameters",
    "PickledWeights",
    "Source",
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
    "is_plain",
    "open_weights",
    "parameters",
    "read_gguf",
    "read_safetensors",
    "thinned",
    "unpacked",
]
