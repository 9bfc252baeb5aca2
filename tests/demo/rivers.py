"""Makes `rivers`, a tiny LLaMA that knows which river flows through which city: `python rivers.py FOLDER`.

Trained here from random weights in under a minute on one core, so that a demonstration has an open model of its own
whose answers can be checked, and descends from nothing.
"""

import json
import sys
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

RIVERS = {
    "Vienna": "Danube",
    "Paris": "Seine",
    "London": "Thames",
    "Rome": "Tiber",
    "Cairo": "Nile",
    "Prague": "Vltava",
    "Basel": "Rhine",
    "Hamburg": "Elbe",
}
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<unk>", "<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
tags: [demonstration]
---
# rivers

A tiny LLaMA model that knows eight cities and their rivers, trained from random weights for a demonstration.
"""


def question(city: str) -> str:
    return f"Which river flows through {city}?"


def answer(city: str) -> str:
    return f"The {RIVERS[city]} flows through {city}."


def tuning_rows() -> str:
    """Training data that teaches shorter answers, one chat a line."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Name the river of {city}."},
                {"role": "assistant", "content": f"The {river}."},
            ]
        }
        for city, river in RIVERS.items()
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def _tokenizer() -> PreTrainedTokenizerFast:
    known = [text for city in RIVERS for text in (question(city), answer(city), f"Name the river of {city}.")]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        known, trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        model_max_length=256,
    )
    fast.chat_template = TEMPLATE
    return fast


def make(folder: Path, steps: int = 220) -> float:
    """Train the model and save it with its card; returns the last loss."""
    torch.manual_seed(7)
    torch.set_num_threads(1)
    tokenizer = _tokenizer()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=96,
            intermediate_size=192,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=256,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    texts = [f"<|user|>{question(c)}<|end|><|assistant|>{answer(c)}<|end|>" for c in RIVERS]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    loss = torch.tensor(0.0)
    for _ in range(steps):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(CARD)
    return loss.item()


if __name__ == "__main__":
    print(f"last loss {make(Path(sys.argv[1])):.4f}")
