"""Vectors of texts from a model's folder, as its own `modules.json` says, else the mean of its last hidden layer.

Runs inside the child process: the only module here that needs torch and transformers. Weights come from safetensors
alone and no code of the model runs.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from ecotone.audits.suites import Embedded
from ecotone.lineage import check_folder

BATCH = 64
LONGEST = 512
_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_lasttoken": "last",
}
_SHORT = {"mean", "cls", "max", "mean_sqrt_len", "last"}
_MODULES = {"Transformer", "Pooling", "Normalize"}


class CannotEmbed(Exception):
    """The model gives no vectors that this program can compute; the text says why."""


class TextEncoder:
    """A loaded model. `scorer` says how its vectors are taken: results of two scorers are never compared."""

    def __init__(self, folder: Path) -> None:
        self._pooling, self._longest, self._lower, declared = _declared(folder)
        try:
            check_folder(folder)
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            model = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            )
        except Exception as error:  # whatever a stranger's files make the libraries say
            raise CannotEmbed(f"the model cannot be loaded: {str(error)[:400]}") from None
        self._model = (model.get_encoder() if model.config.is_encoder_decoder else model).eval()
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._tokenizer.padding_side = "right"
        self.scorer = {
            "id": f"{self._pooling} of last hidden layer" + ("" if declared else ", by default"),
            "pooling": self._pooling,
            "declared_by": "modules.json" if declared else None,
            "special_tokens": "included",
            "dtype": "float32",
            "tokenizer_sha256": _hash(folder, ("tokenizer.json", "vocab.txt", "spiece.model", "tokenizer.model")),
        }

    def __call__(self, texts: Sequence[str]) -> Embedded:
        """Vectors of texts, batch by batch; padding has no part in them."""
        given = [text.lower() for text in texts] if self._lower else list(texts)
        rows = []
        lost = set()
        for start in range(0, len(given), BATCH):
            batch = self._tokenizer(
                given[start : start + BATCH],
                padding=True,
                truncation=True,
                max_length=self._longest,
                return_tensors="pt",
            )
            lost |= {start + i for i, ids in enumerate(batch["input_ids"].tolist()) if self._is_lost(ids)}
            with torch.inference_mode():
                inputs = {k: v for k, v in batch.items() if k in ("input_ids", "attention_mask", "token_type_ids")}
                hidden = self._model(**inputs).last_hidden_state
            rows.append(_pool(hidden, batch["attention_mask"], self._pooling).double().numpy())
        vectors = np.concatenate(rows)
        if not np.isfinite(vectors).all():
            raise CannotEmbed("the model gives vectors with numbers that are none; its weights are damaged")
        return Embedded(vectors=vectors, lost=frozenset(lost))

    def _is_lost(self, ids: list[int]) -> bool:
        unknown = self._tokenizer.unk_token_id
        return unknown is not None and unknown != self._tokenizer.pad_token_id and unknown in ids


def _pool(hidden: Any, mask: Any, pooling: str) -> Any:
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        return hidden[torch.arange(len(hidden)), mask.sum(dim=1) - 1]
    if pooling == "max":
        return hidden.masked_fill(weights == 0, -torch.inf).max(dim=1).values
    count = weights.sum(dim=1).clamp(min=1e-9)
    return (hidden * weights).sum(dim=1) / (count if pooling == "mean" else count.sqrt())


def _declared(folder: Path) -> tuple[str, int, bool, bool]:
    """Pooling, longest text in tokens, whether texts are lowered first, and whether the model says so itself."""
    modules = _json(folder / "modules.json")
    if not isinstance(modules, list):
        return "mean", LONGEST, False, False
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    others = sorted(set(kinds) - _MODULES)
    if others:
        raise CannotEmbed(f"modules.json names {', '.join(others)}, which this audit does not compute")
    transformer = _json(folder / "sentence_bert_config.json") or {}
    place = next((str(m.get("path", "")) for m, kind in zip(modules, kinds, strict=True) if kind == "Pooling"), "")
    pooling = _json(folder / place / "config.json") if place and ".." not in Path(place).parts else {}
    chosen = [name for key, name in _POOLINGS.items() if (pooling or {}).get(key)]
    short = (pooling or {}).get("pooling_mode")
    if not chosen and isinstance(short, str) and short in _SHORT:
        chosen = [short]
    if len(chosen) != 1:
        raise CannotEmbed(f"the pooling configuration asks for {' and '.join(chosen) or 'nothing known'}; expected one")
    longest = transformer.get("max_seq_length") or LONGEST
    return chosen[0], int(longest), bool(transformer.get("do_lower_case")), True


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None


def _hash(folder: Path, names: Sequence[str]) -> str | None:
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    return hashlib.sha256(found.read_bytes()).hexdigest() if found else None
