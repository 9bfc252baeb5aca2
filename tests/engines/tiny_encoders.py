"""Tiny encoders with random weights and any head: BERT over word pieces, RoBERTa over bytes, and their kin."""

from pathlib import Path
from typing import Any

WORDS = ("the a of in is lives works capital city river paris lima anna hugo berlin acme good bad this example").split()  # noqa: SIM905
PIECES = ["##s", "##ed", "##ing", "##land"]
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.6,
}


def make(folder: Path, kind: str, *, positions: int = 64, **config: Any) -> Path:
    """A model of the class `kind`, e.g. BertForMaskedLM, with its tokenizer; texts of up to `positions` tokens."""
    import torch
    import transformers

    family = next(f for f in ("DistilBert", "Bert", "Roberta", "MPNet", "Electra") if kind.startswith(f))
    tokens = _bytes() if family == "Roberta" else _pieces()
    tokens.model_max_length = positions
    tokens.save_pretrained(folder)
    torch.manual_seed(len(kind))
    sizes = dict(SIZES)
    if family == "DistilBert":
        sizes = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4, "initializer_range": 0.6}
    made = getattr(transformers, f"{family}Config")(
        vocab_size=len(tokens),
        pad_token_id=tokens.pad_token_id,
        max_position_embeddings=positions + (2 if family in ("Roberta", "MPNet") else 0),
        **sizes,
        **({"type_vocab_size": 1} if family == "Roberta" else {}),
        **config,
    )
    model = getattr(transformers, kind)(made).eval()
    for name, parameter in model.named_parameters():  # biases begin as zeros, which would hide one that is left out
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


def _pieces() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *PIECES, "?", ".", ","]
    names += [name for letter in letters for name in (letter, f"##{letter}") if name not in names]
    vocabulary = {name: i for i, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _bytes() -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        sep_token="</s>",
        unk_token="<unk>",
        mask_token=AddedToken("<mask>", lstrip=True),
        model_input_names=["input_ids", "attention_mask"],
    )
