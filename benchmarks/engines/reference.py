"""What the figures are compared with, computed by transformers and sentence-transformers in a process of its own.

Reads one JSON object a line: `{"do": NAME, ...}`, answers with one line of JSON. One thread.
"""

import json
import sys
import time
from functools import cache
from typing import Any

import torch

torch.set_num_threads(1)


@cache
def tokenizer(folder: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@cache
def causal(folder: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@cache
def text_to_text(folder: str) -> Any:
    from transformers import AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()


@cache
def sentences(folder: str) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(folder, device="cpu")


def generate(folder: str, messages: list[Any], tokens: int, is_causal: bool = True) -> dict[str, Any]:
    """One hand-made batch of `generate`, padded on the side that its kind of model wants."""
    tok = tokenizer(folder)
    model = causal(folder) if is_causal else text_to_text(folder)
    if is_causal:
        tok.padding_side = "left"
        texts = [tok.apply_chat_template(m, tokenize=False, add_generation_prompt=True) for m in messages]
    else:
        texts = messages
    began = time.process_time()
    batch = tok(texts, return_tensors="pt", padding=True, add_special_tokens=not is_causal)
    with torch.inference_mode():
        made = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
        )
    start = batch["input_ids"].shape[1] if is_causal else 1
    texts = tok.batch_decode(made[:, start:], skip_special_tokens=True)
    return {"cpu": time.process_time() - began, "texts": texts, "tokens": int(made.shape[0] * tokens)}


def encode(folder: str, texts: list[str], batch_size: int) -> dict[str, Any]:
    """sentence-transformers' own `encode`."""
    model = sentences(folder)
    began = time.process_time()
    with torch.inference_mode():
        vectors = model.encode(texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False)
    return {"cpu": time.process_time() - began, "vectors": vectors.tolist()}


def bare(folder: str, texts: list[str]) -> dict[str, Any]:
    """Each text by itself: tokenizer, the model's forward, mean, norm; seconds for each."""
    from transformers import AutoModel

    model, tok = _bare(folder, AutoModel), tokenizer(folder)
    delays = []
    with torch.inference_mode():
        for text in texts:
            began = time.perf_counter()
            batch = tok(text, return_tensors="pt", truncation=True, max_length=256)
            hidden = model(**batch).last_hidden_state
            torch.nn.functional.normalize(hidden.mean(dim=1), dim=-1).tolist()
            delays.append(time.perf_counter() - began)
    return {"delays": delays}


@cache
def _bare(folder: str, kind: Any) -> Any:
    return kind.from_pretrained(folder, dtype=torch.float32).eval()


def logprobs(folder: str, messages: list[Any], tokens: int) -> dict[str, Any]:
    """Greedy text of each prompt alone, with the log-probability of each token that was chosen."""
    tok, model = tokenizer(folder), causal(folder)
    found = []
    with torch.inference_mode():
        for one in messages:
            text = tok.apply_chat_template(one, tokenize=False, add_generation_prompt=True)
            ids = tok(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
            made = model.generate(ids, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens)
            logits = model(made).logits[0].log_softmax(-1)
            start = ids.shape[1]
            chosen = made[0, start:]
            values = logits[start - 1 : -1].gather(1, chosen.unsqueeze(1)).squeeze(1)
            found.append({"text": tok.decode(chosen, skip_special_tokens=True), "logprobs": values.tolist()})
    return {"answers": found}


DOES = {f.__name__: f for f in (generate, encode, bare, logprobs)}

if __name__ == "__main__":
    for line in sys.stdin:
        asked = json.loads(line)
        answer = DOES[asked.pop("do")](**asked)
        print(json.dumps(answer), flush=True)
