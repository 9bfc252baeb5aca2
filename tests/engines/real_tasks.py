"""Every task that real small models do, asked by `InferenceClient` in a process of its own.

python real_tasks.py URL KEY      one line of JSON: by model and task, what its user gets
"""

import json
import sys
from typing import Any

QUESTION = "What is the capital of France?"


def asked(url: str, key: str) -> dict[str, Any]:
    import huggingface_hub
    import numpy

    def at(model: str) -> Any:
        return huggingface_hub.InferenceClient(model=f"{url}/models/demo/{model}", token=key, timeout=180)

    said = [{"role": "user", "content": QUESTION}]
    told: dict[str, Any] = {}
    for name, mask in (("bert", "[MASK]"), ("roberta", "<mask>")):
        told[f"{name} fill_mask"] = at(name).fill_mask(f"{mask} is the capital of France.")[0].token_str.strip()
        told[f"{name} feature_extraction"] = numpy.asarray(at(name).feature_extraction("Paris")).shape[-1]
    mini = at("minilm")
    told["minilm feature_extraction"] = round(float(numpy.linalg.norm(mini.feature_extraction("A cat"))), 3)
    near, far = mini.sentence_similarity("A cat sat.", other_sentences=["A kitten rested.", "Rates rose again."])
    told["minilm sentence_similarity"] = near > far
    t5 = at("t5")
    told["t5 text_generation"] = t5.text_generation(f"question: {QUESTION}", max_new_tokens=40)
    told["t5 translation"] = t5.translation(f"question: {QUESTION}").translation_text
    told["t5 summarization"] = t5.summarization(f"question: {QUESTION}").summary_text
    for name in ("t5", "llama"):
        prompt = [{"role": "user", "content": f"question: {QUESTION}"}] if name == "t5" else said
        told[f"{name} chat"] = at(name).chat_completion(prompt, max_tokens=40, temperature=0).choices[0].message.content
    llama = at("llama")  # held: a client that nobody holds closes its stream
    stream = llama.chat_completion(said, max_tokens=40, temperature=0, stream=True)
    told["llama chat stream"] = "".join(e.choices[0].delta.content or "" for e in stream if e.choices)
    plain = llama.text_generation("The capital", max_new_tokens=8)
    pieces = llama.text_generation("The capital", max_new_tokens=8, stream=True)
    told["llama text_generation"] = "".join(pieces) == plain != ""
    for name in ("sentiment", "entities", "answers", "nli"):
        told |= _heads(name, at(name))
    return told


def _heads(name: str, client: Any) -> dict[str, Any]:
    """Of heads with random weights, that an answer of the right shape comes."""
    text = "anna lives in paris"
    if name == "sentiment":
        return {"bert text_classification": len(client.text_classification(text, top_k=3))}
    if name == "entities":
        return {"bert token_classification": len(client.token_classification(text, ignore_labels=[])) > 3}
    if name == "nli":
        found = client.zero_shot_classification(text, candidate_labels=["city", "river"])
        return {"bert zero_shot_classification": sorted(one.label for one in found)}
    return {"bert question_answering": client.question_answering(question="where?", context=text).answer in text}


if __name__ == "__main__":
    print(json.dumps(asked(sys.argv[1], sys.argv[2])))
