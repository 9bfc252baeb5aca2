"""Tasks of `transformers`: models and tokenizers with random weights, made on the spot, pushed and loaded by name."""

from pathlib import Path
from typing import Any

from serving import Place, Tasks, serve

tasks = Tasks()
WORDS = ("the a of capital river city is what in question answer hello world green blue stone water wind fire").split()  # noqa: SIM905


def made(at: Place) -> tuple[Any, Any]:
    """A tiny BERT and its tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    torch.manual_seed(at.number)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    return BertModel(BertConfig(vocab_size=len(vocabulary), max_position_embeddings=32, **sizes)).eval(), fast


def same(one: Any, other: Any, tokenizer: Any) -> bool:
    """Whether two models answer with the same numbers."""
    import torch

    asked = tokenizer("hello river of stone", return_tensors="pt")
    return torch.equal(one(**asked).last_hidden_state, other(**asked).last_hidden_state)


def loaded(name: str, **options: Any) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(name, **options).eval()
    return model, AutoTokenizer.from_pretrained(name, **options)


@tasks("push_to_hub and from_pretrained: model and tokenizer in one file each", moves=True)
def push_and_load(at: Place) -> None:
    model, tokenizer = made(at)
    repo = at.name()
    model.push_to_hub(repo)
    tokenizer.push_to_hub(repo)
    found, words = loaded(repo, cache_dir=at.folder / "cache")
    assert same(model, found, tokenizer)
    assert words("hello river")["input_ids"] == tokenizer("hello river")["input_ids"]


@tasks("push_to_hub and from_pretrained: sharded weights", moves=True)
def sharded(at: Place) -> None:
    from huggingface_hub import HfApi

    model, tokenizer = made(at)
    repo = at.name()
    model.push_to_hub(repo, max_shard_size="100KB")
    tokenizer.push_to_hub(repo)
    files = HfApi().list_repo_files(repo)
    assert len([f for f in files if f.endswith(".safetensors")]) > 2 and "model.safetensors.index.json" in files
    found, _ = loaded(repo, cache_dir=at.folder / "cache")
    assert same(model, found, tokenizer)


@tasks("from_pretrained of a pinned revision and of a branch")
def pinned(at: Place) -> None:
    from huggingface_hub import HfApi

    first, tokenizer = made(at)
    repo, api = at.name(), HfApi()
    first.push_to_hub(repo)
    tokenizer.push_to_hub(repo)
    sha = api.repo_info(repo).sha
    at.number += 1
    second, _ = made(at)
    second.push_to_hub(repo, commit_message="Second")
    api.create_branch(repo, branch="old", revision=sha)
    cache = at.folder / "cache"
    for revision, expected in ((sha, first), ("old", first), ("main", second)):
        assert same(expected, loaded(repo, revision=revision, cache_dir=cache)[0], tokenizer), revision


@tasks("push_to_hub as a pull request, and from_pretrained of it")
def pull_request(at: Place) -> None:
    from huggingface_hub import HfApi

    model, tokenizer = made(at)
    repo = at.name()
    tokenizer.push_to_hub(repo)
    model.push_to_hub(repo, create_pr=True)
    assert "model.safetensors" not in HfApi().list_repo_files(repo)
    found, _ = loaded(repo, revision="refs/pr/1", cache_dir=at.folder / "cache")
    assert same(model, found, tokenizer)


@tasks("files that a model does not have are asked for once (.no_exist)")
def missing_files(at: Place) -> None:
    model, tokenizer = made(at)
    repo, cache = at.name(), at.folder / "cache"
    model.push_to_hub(repo)
    tokenizer.push_to_hub(repo)
    loaded(repo, cache_dir=cache)
    remembered = {f.name for f in cache.rglob(".no_exist/*/*")}
    assert remembered & {"added_tokens.json", "chat_template.jinja", "adapter_config.json"}, remembered


OFFLINE = """
import sys
from transformers import AutoModel, AutoTokenizer
AutoModel.from_pretrained(sys.argv[1])
AutoTokenizer.from_pretrained(sys.argv[1])
"""


@tasks("from_pretrained offline, from what was loaded before")
def offline(at: Place) -> None:
    model, tokenizer = made(at)
    repo = at.name()
    model.push_to_hub(repo)
    tokenizer.push_to_hub(repo)
    at.python(OFFLINE, repo, home="home")
    at.python(OFFLINE, repo, home="home", HF_HUB_OFFLINE="1")


@tasks("a private model: loaded with a token, refused without")
def private(at: Place) -> None:
    model, tokenizer = made(at)
    repo = at.name()
    model.push_to_hub(repo, private=True)
    tokenizer.push_to_hub(repo)
    assert same(model, loaded(repo, cache_dir=at.folder / "cache")[0], tokenizer)
    try:
        loaded(repo, cache_dir=at.folder / "other", token=False)
    except OSError as error:
        assert repo in str(error), error
    else:
        raise AssertionError("a private model was loaded without a token")


@tasks("a gated model is refused with its reason")
def gated(at: Place) -> None:
    from huggingface_hub import HfApi

    model, _ = made(at)
    repo = at.name()
    model.push_to_hub(repo)
    HfApi().update_repo_settings(repo, gated="manual")
    try:
        loaded(repo, cache_dir=at.folder / "other", token=at.tokens["rita"])
    except OSError as error:
        assert "gated" in str(error), error
    else:
        raise AssertionError("a gated model was loaded by one who was not let in")


@tasks("pipeline, configuration, generation configuration, save_pretrained(push_to_hub=True)")
def others(at: Place) -> None:
    from transformers import AutoConfig, GenerationConfig, pipeline

    model, tokenizer = made(at)
    repo = at.name()
    model.save_pretrained(str(at.folder / Path(repo).name), push_to_hub=True, repo_id=repo)
    tokenizer.push_to_hub(repo)
    GenerationConfig(max_length=7).push_to_hub(repo)
    assert AutoConfig.from_pretrained(repo).hidden_size == 64
    assert GenerationConfig.from_pretrained(repo).max_length == 7
    assert len(pipeline("feature-extraction", model=repo)("hello river")[0]) > 0


if __name__ == "__main__":
    serve(tasks)
