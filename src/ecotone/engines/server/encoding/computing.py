"""A batch of texts to what is wanted of each: by the packed forward where it fits, else by the model's own, padded."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ecotone.engines.server.encoding.heads import heads_of
from ecotone.engines.server.encoding.packed import Packed, Packing
from ecotone.engines.server.encoding.texts import Found, Head, Text
from ecotone.engines.server.pooling import Pooling

Compute = Callable[[Sequence[Text]], list[Found]]


class Unpadded:
    """Texts of all kinds in one forward, whatever is wanted of each."""

    name = "unpadded"

    def __init__(self, model: Any, pooling: Pooling) -> None:
        self._packed = Packed(model.base_model)
        self._heads = heads_of(model)
        self._pooling = pooling

    @staticmethod
    def fits(model: Any) -> bool:
        return Packed.fits(model.base_model)

    def __call__(self, texts: Sequence[Text]) -> list[Found]:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        chosen = [texts[place] for place in order]
        hidden, packing = self._packed(chosen)
        found: list[Any] = [None] * len(texts)
        for head in {text.head for text in chosen}:
            rows = [row for row, text in enumerate(chosen) if text.head == head]
            for row, value in zip(rows, self._made(head, rows, chosen, hidden, packing), strict=True):
                found[order[row]] = value
        return found

    def _made(self, head: Head, rows: list[int], texts: Sequence[Text], hidden: Any, packing: Packing) -> list[Any]:
        if head in (Head.VECTOR, Head.POOLED):
            every = len(rows) == len(texts)
            lengths = [packing.lengths[row] for row in rows]
            mine = hidden if every else torch.cat([self._of(row, hidden, packing) for row in rows])
            return list(_array(self._pooling.packed(mine.float(), lengths, normalised=head == Head.VECTOR)))
        if head == Head.LABELS:
            return list(_array(self._heads[head](hidden[packing.starts[rows]])))
        if head == Head.MASKS:
            return [self._masks(self._of(row, hidden, packing), texts[row].places) for row in rows]
        return [_array(self._heads[head](self._of(row, hidden, packing))) for row in rows]

    def _of(self, row: int, hidden: Any, packing: Packing) -> Any:
        start = int(packing.starts[row])
        return hidden[start : start + packing.lengths[row]]

    def _masks(self, hidden: Any, places: Sequence[int]) -> Found:
        return _array(self._heads[Head.MASKS](hidden[list(places)]))


class Padded:
    """The model's own forward, texts of like lengths padded to the longest of them."""

    name = "padded"

    def __init__(self, model: Any, pooling: Pooling, pad: int) -> None:
        self._model = model
        self._pooling = pooling
        self._pad = pad

    def __call__(self, texts: Sequence[Text]) -> list[Found]:
        found: list[Any] = [None] * len(texts)
        order = sorted(range(len(texts)), key=lambda place: (texts[place].head, len(texts[place])))
        for _, group in itertools.groupby(order, key=lambda place: (texts[place].head, len(texts[place]) // 16)):
            places = list(group)
            for place, value in zip(places, self._forward([texts[p] for p in places]), strict=True):
                found[place] = value
        return found

    def _forward(self, texts: Sequence[Text]) -> list[Any]:
        longest = max(map(len, texts))
        ids = torch.full((len(texts), longest), self._pad)
        mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(list(text.ids))
            mask[row, : len(text)] = 1
            if text.types is not None:
                types[row, : len(text)] = torch.tensor(list(text.types))
        device, head = self._model.device, texts[0].head
        given = {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
        if any(text.types is not None for text in texts):
            given["token_type_ids"] = types.to(device)
        if head in (Head.VECTOR, Head.POOLED):
            hidden = self._model.base_model(**given).last_hidden_state.float()
            return list(_array(self._pooling(hidden, given["attention_mask"], normalised=head == Head.VECTOR)))
        return self._of_head(head, self._model(**given), texts)

    def _of_head(self, head: Head, out: Any, texts: Sequence[Text]) -> list[Any]:
        if head == Head.SPANS:
            both = torch.stack([out.start_logits, out.end_logits], dim=-1)
            return [_array(row[: len(text)]) for row, text in zip(both, texts, strict=True)]
        if head == Head.LABELS:
            return list(_array(out.logits))
        if head == Head.MASKS:
            return [_array(row[list(text.places)]) for row, text in zip(out.logits, texts, strict=True)]
        return [_array(row[: len(text)]) for row, text in zip(out.logits, texts, strict=True)]


def _array(tensor: Any) -> Found:
    found: Found = tensor.float().cpu().numpy()
    return found
