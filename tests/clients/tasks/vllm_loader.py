"""Tasks of vLLM's model loader: its own functions, imported from its package, without a GPU and without an engine."""

import json
from pathlib import Path

from content import CARD, weights
from hub_files import api_of, new_repo
from serving import Place, Tasks, serve

tasks = Tasks()
CONFIG = b'{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 8}'


def sharded_repo(at: Place) -> str:
    index = {"metadata": {"total_size": 3000}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    return new_repo(
        at,
        {
            "README.md": CARD.encode(),
            "config.json": CONFIG,
            "model.safetensors.index.json": json.dumps(index).encode(),
            "model-1.safetensors": weights(1000, name="a"),
            "model-2.safetensors": weights(2000, name="b"),
            "consolidated.safetensors": weights(3000, name="c"),
            "training_args.bin": b"1",
        },
    )


@tasks("list_repo_files and file_or_path_exists")
def listing(at: Place) -> None:
    from vllm.transformers_utils import repo_utils

    repo = sharded_repo(at)
    assert "model-2.safetensors" in repo_utils.list_repo_files(repo, token=at.tokens["will"])
    assert repo_utils.file_or_path_exists(repo, "config.json", None)
    assert not repo_utils.file_or_path_exists(repo, "params.json", None)
    assert set(repo_utils.list_filtered_repo_files(repo, ["model-*.safetensors"])) == {
        "model-1.safetensors",
        "model-2.safetensors",
    }


@tasks("get_hf_file_to_dict, of the hub and of the cache")
def file_to_dict(at: Place) -> None:
    from vllm.transformers_utils import repo_utils

    repo = sharded_repo(at)
    for _ in range(2):
        assert repo_utils.get_hf_file_to_dict("config.json", repo)["hidden_size"] == 8
    assert repo_utils.get_hf_file_to_dict("none.json", repo) is None
    assert repo_utils.get_hf_file_bytes("README.md", repo) == CARD.encode()


@tasks("download_weights_from_hf: only the weights of the best format")
def download(at: Place) -> None:
    from vllm.model_executor.model_loader import weight_utils

    repo = sharded_repo(at)
    patterns = ["*.safetensors", "*.bin"]
    folder = Path(weight_utils.download_weights_from_hf(repo, str(at.folder / "cache"), patterns))
    assert {"model-1.safetensors", "model-2.safetensors"} <= {f.name for f in folder.iterdir()}
    assert not list(folder.glob("*.bin"))


@tasks("download_safetensors_index_file_from_hf, filter of duplicate and needless files")
def filters(at: Place) -> None:
    from vllm.model_executor.model_loader import weight_utils

    repo, cache, index = sharded_repo(at), str(at.folder / "cache"), "model.safetensors.index.json"
    folder = weight_utils.download_weights_from_hf(repo, cache, ["*.safetensors"])
    weight_utils.download_safetensors_index_file_from_hf(repo, index, cache)
    names = ("consolidated.safetensors", "model-1.safetensors", "model-2.safetensors")
    files = [str(Path(folder) / name) for name in names]
    wanted = weight_utils.filter_duplicate_safetensors_files(files, folder, index)
    assert [Path(f).name for f in wanted] == ["model-1.safetensors", "model-2.safetensors"]
    assert weight_utils.filter_files_not_needed_for_inference([*wanted, "training_args.bin"]) == wanted


@tasks("safetensors_weights_iterator over what was downloaded")
def iterator(at: Place) -> None:
    from vllm.model_executor.model_loader import weight_utils

    repo = sharded_repo(at)
    folder = weight_utils.download_weights_from_hf(repo, str(at.folder / "cache"), ["model-*.safetensors"])
    files = sorted(str(f) for f in Path(folder).glob("*.safetensors"))
    tensors = dict(weight_utils.safetensors_weights_iterator(files, use_tqdm_on_load=False))
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {"a": (1000,), "b": (2000,)}


@tasks("a pinned revision, and get_model_path offline")
def pinned(at: Place) -> None:
    from vllm.transformers_utils import repo_utils

    repo = sharded_repo(at)
    api = api_of(at)
    sha = api.repo_info(repo).sha
    api.upload_file(path_or_fileobj=b'{"hidden_size": 9}', path_in_repo="config.json", repo_id=repo)
    assert repo_utils.get_hf_file_to_dict("config.json", repo, sha)["hidden_size"] == 8
    code = """
import sys
from vllm.transformers_utils.repo_utils import get_model_path
print(get_model_path(sys.argv[1]))
"""
    api.snapshot_download(repo)
    assert Path(at.python(code, repo, HF_HUB_OFFLINE="1").stdout.split()[-1]).is_dir()


if __name__ == "__main__":
    serve(tasks)
