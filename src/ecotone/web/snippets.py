"""How to use a model, as lines to copy that work against this very server."""

from collections.abc import Collection
from dataclasses import dataclass

from ecotone.catalog import Model, Revision
from ecotone.vocabulary import ModelKind, RepoType

_EMBEDDING = ("sentence-similarity", "feature-extraction")
_READS = (*_EMBEDDING, "fill-mask", "text-classification", "token-classification", "question-answering",
          "zero-shot-classification")  # fmt: skip
_ASKED = {
    "sentence-similarity": 'sentence_similarity("A cat sat.", other_sentences=["A kitten rested.", "Rates rose."])',
    "feature-extraction": 'feature_extraction("A cat sat on the mat.")',
    "fill-mask": 'fill_mask("Paris is the capital of {mask}.")',
    "text-classification": 'text_classification("I liked it very much.")',
    "token-classification": 'token_classification("Ada Lovelace lived in London.")',
    "question-answering": 'question_answering(question="Where is it?", context="It is in London.")',
    "zero-shot-classification": 'zero_shot_classification("Rates rose.", candidate_labels=["money", "sport"])',
    "text2text-generation": 'text_generation("Hello")',
    "translation": 'translation("Hello")',
    "summarization": 'summarization("A long text.")',
}
_CLASSES = {
    "fill-mask": "AutoModelForMaskedLM",
    "text-classification": "AutoModelForSequenceClassification",
    "zero-shot-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    "translation": "AutoModelForSeq2SeqLM",
    "summarization": "AutoModelForSeq2SeqLM",
}
_OTHER_MASK = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "bart")


@dataclass(frozen=True, slots=True)
class Snippet:
    title: str
    text: str


def snippets(
    base: str, model: Model, revision: Revision | None, *, is_served: bool, backends: Collection[str] = ()
) -> list[Snippet]:
    """What a visitor would type next.

    Args:
        base: the address of this server.
        is_served: whether an engine answers for the model by now.
        backends: names of backends through which it may be reached.
    """
    if revision is None:
        return _through_a_backend(base, model, backends) if _is_api(model) else []
    kind = "" if model.repo_type is RepoType.MODEL else f" --repo-type {model.repo_type.value}"
    found = [
        Snippet("Download", f"pip install huggingface_hub\nexport HF_ENDPOINT={base}\nhf download {model.id}{kind}\n")
    ]
    if model.repo_type is not RepoType.MODEL:
        return found
    if revision.config:
        found.append(Snippet("Transformers", _transformers(base, model)))
    embeds = model.pipeline_tag in _READS or "sentence-transformers" in model.tags
    serve = "" if is_served else f"# once, in a shell: ecotone serve {model.id}\n"
    found.append(Snippet("OpenAI client", serve + _openai(base, model.id, embeds)))
    found.append(Snippet("Hugging Face client", serve + _inference(base, model, revision, embeds)))
    return found


def _through_a_backend(base: str, model: Model, backends: Collection[str]) -> list[Snippet]:
    if backends:
        return [Snippet("Through the gateway", _openai(base, f"{next(iter(backends))}/{model.name}", False))]
    name = model.namespace.lower()
    add = f"ecotone backend add {name} --url https://... --key-env {name.replace('-', '_').upper()}_API_KEY\n"
    return [
        Snippet("Once, by an administrator", add),
        Snippet("Through the gateway", _openai(base, f"{name}/{model.name}", False)),
    ]


def _is_api(model: Model) -> bool:
    return model.kind is ModelKind.API and model.facts.get("availability") == "api"


def _transformers(base: str, model: Model) -> str:
    kind = _CLASSES.get(model.pipeline_tag or "", "AutoModel")
    return (
        f'import os\nos.environ["HF_ENDPOINT"] = "{base}"  # before the import\n'
        f"from transformers import {kind}, AutoTokenizer\n\n"
        f'model = {kind}.from_pretrained("{model.id}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{model.id}")\n'
    )


def _inference(base: str, model: Model, revision: Revision, embeds: bool) -> str:
    """The task that the model is for; the model is named by its address, as the client knows no other way."""
    asked = _ASKED.get(model.pipeline_tag or "")
    if asked is None:
        asked = _ASKED["feature-extraction"] if embeds else 'chat_completion([{"role": "user", "content": "Hello"}])'
    mask = "<mask>" if (revision.config or {}).get("model_type") in _OTHER_MASK else "[MASK]"
    return (
        "from huggingface_hub import InferenceClient\n\n"
        f'client = InferenceClient(\n    model="{base}/models/{model.id}", token="eck_..."\n)\n'
        f"answer = client.{asked.replace('{mask}', mask)}\n"
    )


def _openai(base: str, name: str, embeds: bool) -> str:
    chat = f'model="{name}", messages=[{{"role": "user", "content": "Hello"}}]'
    call = (
        f'client.embeddings.create(model="{name}", input=["Hello"])'
        if embeds
        else f"client.chat.completions.create(\n    {chat}\n)"
    )
    return (
        "from openai import OpenAI\n\n"
        "# the key: ecotone key create --project NAME\n"
        f'client = OpenAI(base_url="{base}/v1", api_key="eck_...")\n'
        f"answer = {call}\n"
    )
