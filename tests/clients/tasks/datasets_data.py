"""Tasks of `datasets`: push, load, stream."""

import json
from typing import Any

from content import write
from serving import Place, Tasks, serve

tasks = Tasks()


def rows(number: int = 500) -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"i": list(range(number)), "text": [f"row {i}" for i in range(number)]})


@tasks("push_to_hub and load_dataset (Parquet)", moves=True)
def push_and_load(at: Place) -> None:
    from datasets import load_dataset

    repo = at.name("data")
    rows().push_to_hub(repo)
    found = load_dataset(repo, split="train", cache_dir=at.folder / "cache")
    assert found["text"][499] == "row 499" and len(found) == 500


@tasks("push_to_hub of several shards, splits and configurations", moves=True)
def several(at: Place) -> None:
    from datasets import DatasetDict, get_dataset_config_names, get_dataset_split_names, load_dataset

    repo = at.name("data")
    DatasetDict({"train": rows(400), "test": rows(40)}).push_to_hub(repo, num_shards={"train": 4, "test": 1})
    rows(7).push_to_hub(repo, "other")
    assert set(get_dataset_config_names(repo)) == {"default", "other"}
    assert set(get_dataset_split_names(repo, "default")) == {"train", "test"}
    found = load_dataset(repo, cache_dir=at.folder / "cache")
    assert {split: len(data) for split, data in found.items()} == {"train": 400, "test": 40}
    assert len(load_dataset(repo, "other", split="train", cache_dir=at.folder / "cache")) == 7


@tasks("push_to_hub again replaces a split", moves=True)
def again(at: Place) -> None:
    from datasets import load_dataset

    repo = at.name("data")
    rows(300).push_to_hub(repo, num_shards=3)
    rows(20).push_to_hub(repo)
    assert len(load_dataset(repo, split="train", cache_dir=at.folder / "cache")) == 20


@tasks("stream Parquet, skip and take", moves=True)
def stream(at: Place) -> None:
    from datasets import load_dataset

    repo = at.name("data")
    rows(3000).push_to_hub(repo, num_shards=2)
    data = load_dataset(repo, split="train", streaming=True)
    assert next(iter(data))["text"] == "row 0"
    assert [r["i"] for r in data.skip(1700).take(3)] == [1700, 1701, 1702]
    assert sum(1 for _ in data) == 3000


@tasks("load and stream JSON lines, CSV and text by file names")
def by_names(at: Place) -> None:
    from datasets import load_dataset
    from huggingface_hub import HfApi

    api, repo = HfApi(), at.name("data")
    lines = "".join(json.dumps({"i": i}) + "\n" for i in range(50))
    write(at.folder / "d" / "data" / "train.jsonl", lines.encode())
    write(at.folder / "d" / "data" / "test.csv", b"i\n1\n2\n")
    write(at.folder / "d" / "notes" / "a.txt", b"one\ntwo\n")
    api.create_repo(repo, repo_type="dataset")
    api.upload_folder(repo_id=repo, repo_type="dataset", folder_path=at.folder / "d")
    cache = str(at.folder / "cache")
    assert len(load_dataset(repo, data_files="data/*.jsonl", split="train", cache_dir=cache)) == 50
    assert load_dataset(repo, data_files={"test": "data/test.csv"}, split="test", cache_dir=cache)["i"][1] == 2
    streamed = load_dataset(repo, data_files="data/train.jsonl", split="train", streaming=True)
    assert [r["i"] for r in streamed.take(2)] == [0, 1]
    by_address = load_dataset("text", data_files=f"hf://datasets/{repo}/notes/*.txt", split="train", cache_dir=cache)
    assert by_address["text"][0] == "one"


@tasks("load a pinned revision; an absent data set is refused")
def pinned(at: Place) -> None:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import HfApi

    repo = at.name("data")
    rows(10).push_to_hub(repo)
    sha = HfApi().dataset_info(repo).sha
    rows(20).push_to_hub(repo)
    assert len(load_dataset(repo, revision=sha, split="train", cache_dir=at.folder / "cache")) == 10
    try:
        load_dataset(at.name("absent"))
    except DatasetNotFoundError:
        return
    raise AssertionError("an absent data set was found")


@tasks("private and gated data sets: with a token, and refused without")
def closed(at: Place) -> None:
    from datasets import load_dataset
    from huggingface_hub import HfApi

    repo = at.name("data")
    rows(10).push_to_hub(repo, private=True)
    assert len(load_dataset(repo, split="train", cache_dir=at.folder / "cache")) == 10
    said = at.python(READ, repo, home="none", HF_TOKEN=None, check=False)
    assert "DatasetNotFoundError" in said.stderr, said.stderr[-500:]
    HfApi().update_repo_settings(repo, repo_type="dataset", private=False, gated="manual")
    said = at.python(READ, repo, home="rita", HF_TOKEN=at.tokens["rita"], check=False)
    assert "DatasetNotFoundError" in said.stderr and "gated" in said.stderr, said.stderr[-500:]


READ = """
import sys
from datasets import load_dataset
print(len(load_dataset(sys.argv[1], split="train")))
"""


@tasks("load offline, from what was loaded before")
def offline(at: Place) -> None:
    repo = at.name("data")
    rows(10).push_to_hub(repo)
    assert at.python(READ, repo, home="home").stdout.split()[-1] == "10"
    assert at.python(READ, repo, home="home", HF_HUB_OFFLINE="1").stdout.split()[-1] == "10"


@tasks("pandas and pyarrow read hf:// addresses", moves=True)
def other_readers(at: Place) -> None:
    import pandas
    import pyarrow.parquet

    repo = at.name("data")
    rows(100).push_to_hub(repo)
    address = f"hf://datasets/{repo}/data/train-00000-of-00001.parquet"
    assert len(pandas.read_parquet(address)) == 100
    import fsspec

    with fsspec.open(address) as file:
        assert pyarrow.parquet.ParquetFile(file).metadata.num_rows == 100


if __name__ == "__main__":
    serve(tasks)
