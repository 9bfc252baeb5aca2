"""Ways to compute a 30 M-parameter LLaMA in 8 bits on one thread, beside full precision: tokens per CPU-second.

    python benchmarks/engines/int8_ways.py

CTranslate2 is measured when it is installed; it is no dependency of the product. 32 tokens of prompt, 32 new ones.
"""

import copy
import importlib.util
import json
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers

from ecotone.engines.server.quantising import quantise_layers
from ecotone.engines.server.stepping.choosing import stepper_for

NEW = 32
Way = Callable[[Sequence[list[int]]], None]


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 1408, "max_position_embeddings": 1024}
    config = transformers.LlamaConfig(**sizes, num_hidden_layers=8, num_attention_heads=8, tie_word_embeddings=True)
    model = transformers.LlamaForCausalLM(config).eval().requires_grad_(False)
    quantised = torch.ao.quantization.quantize_dynamic(
        copy.deepcopy(model), {torch.nn.Linear: torch.ao.quantization.per_channel_dynamic_qconfig}, dtype=torch.qint8
    )
    ways: dict[str, Way] = {
        "ours": _ours(model),
        "ours, int8": _ours(model, int8=True),
        "ours, int8 but for the last product": _ours(model, int8=True, keep_head=True),
        "generate": _generate(model),
        "generate, torch's dynamic int8": _generate(quantised),
    }
    with tempfile.TemporaryDirectory() as folder:
        if importlib.util.find_spec("ctranslate2"):
            ways |= {f"CTranslate2 {kind}": _ctranslate2(model, Path(folder), kind) for kind in ("float32", "int8")}
        chance = random.Random(0)
        for count in (1, 8, 32):
            prompts = [[chance.randrange(2, 8000) for _ in range(32)] for _ in range(count)]
            print(json.dumps({"answers": count, **_measured(ways, prompts)}), flush=True)


def _measured(ways: dict[str, Way], prompts: Sequence[list[int]]) -> dict[str, int]:
    """The best of five turns in which all ways follow each other; the first turn warms up."""
    best = dict.fromkeys(ways, 0.0)
    for turn in range(6):
        for name, way in ways.items():
            began = time.process_time()
            way(prompts)
            if turn:
                best[name] = max(best[name], len(prompts) * NEW / (time.process_time() - began))
    return {name: round(rate) for name, rate in best.items()}


def _ours(model: Any, *, int8: bool = False, keep_head: bool = False) -> Way:
    copied = copy.deepcopy(model)
    if int8:
        quantise_layers(copied, keep=[copied.lm_head] if keep_head else [])
    stepper = stepper_for(SimpleNamespace(model=copied, context_length=512), {"slots": 32})  # type: ignore[arg-type]

    def write(prompts: Sequence[list[int]]) -> None:
        with torch.inference_mode():
            rows = [stepper.open(prompt) for prompt in prompts]
            first = {}
            while stepper.filling:
                first |= {row: int(logits.argmax()) for row, logits in stepper.fill(1 << 20)}
            tokens = [first[row] for row in rows]
            for _ in range(NEW - 1):
                tokens = stepper.step(rows, tokens).argmax(-1).tolist()
            for row in rows:
                stepper.close(row)

    return write


def _generate(model: Any) -> Way:
    def write(prompts: Sequence[list[int]]) -> None:
        ids = torch.tensor(prompts)
        fixed = {"max_new_tokens": NEW, "min_new_tokens": NEW, "eos_token_id": None, "pad_token_id": 0}
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **fixed)

    return write


def _ctranslate2(model: Any, folder: Path, kind: str) -> Way:
    import ctranslate2
    from tokenizers import Tokenizer, models

    words = {"<s>": 0, "</s>": 1, "<unk>": 2} | {f"w{number}": number for number in range(3, 8192)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "model")
    model.save_pretrained(folder / "model")
    converter = ctranslate2.converters.TransformersConverter(str(folder / "model"))
    converter.convert(str(folder / kind), quantization=kind)
    generator = ctranslate2.Generator(str(folder / kind), compute_type=kind, intra_threads=1, inter_threads=1)

    def write(prompts: Sequence[list[int]]) -> None:
        asked = [[f"w{max(token, 3)}" for token in prompt] for prompt in prompts]
        fixed = {"max_length": NEW, "min_length": NEW, "sampling_topk": 1}
        generator.generate_batch(asked, include_prompt_in_result=False, **fixed)

    return write


if __name__ == "__main__":
    main()
