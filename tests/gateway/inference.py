"""Every task of `InferenceClient` and chat, in a process of its own: what its user gets, or the error that was raised.

python inference.py URL KEY      one line of JSON: by task
"""

import json
import sys
from typing import Any


def asked(url: str, key: str) -> dict[str, Any]:
    """What each method gives, as JSON."""
    import huggingface_hub
    import numpy

    def at(model: str) -> Any:
        return huggingface_hub.InferenceClient(model=f"{url}/models/demo/{model}", token=key, timeout=120)

    bert, minilm, t5, llama = at("bert"), at("minilm"), at("t5"), at("llama")
    said = [{"role": "user", "content": "What is the capital of France?"}]
    labels = ["good", "bad"]
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    calls = {
        "fill_mask": lambda: bert.fill_mask("Paris is in [MASK].", top_k=1)[0].token_str,
        "feature_extraction": lambda: numpy.asarray(minilm.feature_extraction("A cat", normalize=True)).tolist(),
        "text_classification": lambda: bert.text_classification("Good", function_to_apply="softmax")[0].label,
        "token_classification": lambda: bert.token_classification("Ada", aggregation_strategy="simple")[0].word,
        "question_answering": lambda: bert.question_answering(question="Where?", context="Paris").answer,
        "sentence_similarity": lambda: minilm.sentence_similarity("A", other_sentences=["B", "C"]),
        "summarization": lambda: t5.summarization("A long text").summary_text,
        "translation": lambda: t5.translation("Hallo").translation_text,
        "zero_shot_classification": lambda: bert.zero_shot_classification("Good", candidate_labels=labels)[0].label,
        "table_question_answering": lambda: bert.table_question_answering({"a": ["7"]}, query="How many?").answer,
        "text_generation": lambda: t5.text_generation("question: What?", max_new_tokens=4),
        "text_generation_stream": lambda: "".join(llama.text_generation("What?", stream=True)),
        "text_generation_details": lambda: (
            list(llama.text_generation("What?", stream=True, details=True))[-1].details.generated_tokens
        ),
        "chat_completion": lambda: llama.chat_completion(said, max_tokens=9).choices[0].message.content,
        "chat_completion_stream": lambda: "".join(
            e.choices[0].delta.content or "" for e in llama.chat_completion(said, stream=True) if e.choices
        ),
        "chat_completion_schema": lambda: (
            llama.chat_completion(said, response_format=schema).choices[0].message.content
        ),
        "refused": lambda: bert.fill_mask("wrong [MASK]"),
        "generation_refused": lambda: llama.text_generation("wrong"),
        "unknown": lambda: at("nobody").fill_mask("[MASK]"),
    }
    told: dict[str, Any] = {}
    for name, call in calls.items():
        try:
            told[name] = call()
        except Exception as error:  # whatever its user would see
            told[name] = f"{type(error).__name__}: {error}"
    return told


if __name__ == "__main__":
    print(json.dumps(asked(sys.argv[1], sys.argv[2])))
