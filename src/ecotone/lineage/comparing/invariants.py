"""What stays when hidden dimensions are permuted or rotated: the product of queries and keys on shared tokens.

Source of the invariant: HuRef (NeurIPS 2024, arXiv 2312.04828); here it is centred, with rows of the embedding
normalised and the norm's weight applied, as the network itself does.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from ecotone.lineage.comparing.cosines import cosine
from ecotone.lineage.comparing.pairing import Pairing, spread
from ecotone.lineage.comparing.roles import Role
from ecotone.lineage.comparing.views import Parts, layer_pairs
from ecotone.lineage.sources import Source, Values

_TOKENS: Final = 512
_LAYERS: Final = 8
Table = npt.NDArray[np.float64]


def tokens_of(source: Source, name: str, count: int, limit: int) -> Values:
    """Embedding rows of tokens spread evenly over the first `count`, at most `limit` of them; finite."""
    picked = np.unique(np.linspace(0, count - 1, min(count, limit)).astype(int))
    if len(picked) == count:
        rows = source.rows(name, 0, count)
    else:
        rows = np.concatenate([source.rows(name, int(i), int(i) + 1) for i in picked])
    return np.where(np.abs(rows) < 1e18, rows, np.float32(0))


def qk_cosine(child: Source, parent: Source, pairing: Pairing) -> tuple[float | None, str]:
    """Mean cosine of the centred products, over at most eight layers spread over the model.

    Returns:
        the figure and how many layers it stands on; None and the reason when it cannot be computed.
    """
    ours, theirs = Parts(child), Parts(parent)
    here, there = ours.one(Role.EMBEDDING), theirs.one(Role.EMBEDDING)
    if here is None or there is None:
        return None, "one of the models has no (or more than one) token embedding"
    count = min(child.tensors[here].shape[0], parent.tensors[there].shape[0])
    if count < 16:
        return None, "fewer than 16 tokens are shared"
    pairs = layer_pairs(pairing, ours, Role.QUERY)
    if not pairs:
        return None, "no layer has queries and keys of their own on both sides"
    first, second = (_unit(tokens_of(s, n, count, _TOKENS)) for s, n in ((child, here), (parent, there)))
    figures = []
    for mine, other in spread(pairs, _LAYERS):
        a, b = _product(child, ours, mine, first), _product(parent, theirs, other, second)
        if a is not None and b is not None:
            figures.append(cosine(a, b))
    if not figures:
        return None, "queries and keys of the layers do not fit the embedding or each other"
    return float(np.mean(figures)), f"{len(figures)} layers, {len(first)} tokens"


def _unit(rows: Values) -> Table:
    wide = rows.astype(np.float64)
    scale = np.sqrt((wide**2).mean(axis=1, keepdims=True))
    return wide / np.where(scale > 0, scale, 1.0)


def _product(source: Source, parts: Parts, layer: tuple[str, int], tokens: Table) -> Table | None:
    """Tokens' queries times tokens' keys, summed over heads; a key that several heads share counts for each."""
    query, key = parts.one(Role.QUERY, layer), parts.one(Role.KEY, layer)
    if query is None or key is None:
        return None
    q, k = source.read(query), source.read(key)
    width = tokens.shape[1]
    if q.ndim != 2 or k.ndim != 2 or q.shape[1] != width or k.shape[1] != width or 0 in (*q.shape, *k.shape):
        return None
    norm = parts.one(Role.ATTENTION_NORM, layer)
    if norm is not None and source.tensors[norm].shape == (width,):
        tokens = tokens * source.read(norm)
    if len(q) != len(k):
        summed = _shared(source, q, len(k))
        if summed is None:
            return None
        q = summed
    product: Table = (tokens @ q.T.astype(np.float64)) @ (tokens @ k.T.astype(np.float64)).T
    if not np.isfinite(product).all():
        return None
    product -= product.mean(axis=0)
    product -= product.mean(axis=1, keepdims=True)
    return product


def _shared(source: Source, q: Values, rows: int) -> Values | None:
    """Queries summed over the heads that share a key."""
    heads = source.architecture.heads if source.architecture is not None else None
    if heads is None or len(q) % heads or rows % (len(q) // heads) or len(q) % rows:
        return None
    size = len(q) // heads
    groups = q.reshape(rows // size, len(q) // rows, size, -1)
    return np.asarray(groups.sum(axis=1).reshape(rows, -1), np.float32)
