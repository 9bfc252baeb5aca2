"""What stands between the products of a step, compiled by numba: each kernel reads and writes its rows once.

Arrays come as addresses, of float32 unless it is said; a scale at address 0 is 1 for every row. Rows are computed one
by one, so that an answer does not depend on its company. Where `largest` `[rows]` is given, rows are divided by their
largest value, for products in 8 bits, and it is kept there; at address 0 they stay as they are. NaN and infinity stay
what they are too: nothing here assumes that there are none.
"""

import contextlib
import logging
import os
import stat
from pathlib import Path

import numpy as np
from numba import carray, njit, types
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

_log = logging.getLogger(__name__)

_FAST = {"reassoc", "contract", "arcp", "nsz"}  # sums in any order; a NaN still is one
_F, _I = np.float32, np.int32
_ONE, _ZERO = _F(1), _F(0)
_LOG2E, _LN2_HIGH, _LN2_LOW = _F(1.44269504), _F(0.693359375), _F(-2.12194440e-4)


class _Kept(FunctionCache):  # type: ignore[misc]  # numba is untyped to mypy
    """numba's cache of a kernel; nothing of it that is damaged, or cannot be written, keeps a kernel from working."""

    def load_overload(self, *asked):  # type: ignore[no-untyped-def]
        try:
            return super().load_overload(*asked)
        except Exception as error:  # a torn file, as a full disk or a loss of power leaves it
            _log.info("a compiled kernel in %s cannot be read (%s); it is compiled again", self.cache_path, error)
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, *made):  # type: ignore[no-untyped-def]
        try:
            super().save_overload(*made)
        except Exception as error:
            _log.info("a compiled kernel could not be kept in %s (%s)", self.cache_path, error)


def is_ours(folder: Path) -> bool:
    """Whether nobody but us (our group, root) can put files there: what lies in a cache is run."""
    for place in (folder, *folder.parents):
        found = place.stat()
        written_by_all = found.st_mode & stat.S_IWOTH and not (place != folder and found.st_mode & stat.S_ISVTX)
        if written_by_all or found.st_uid not in (0, os.getuid()):
            return False
    return True


def _kernel(function):  # type: ignore[no-untyped-def]
    """Compiled at its first call; kept for the next process where a folder for that can be written by us alone."""
    made = njit(fastmath=_FAST, error_model="numpy", nogil=True)(function)
    with contextlib.suppress(RuntimeError, OSError, AttributeError):  # no such folder; a system without users
        kept = _Kept(function)
        if is_ours(Path(kept.cache_path).resolve()):
            made._cache = kept
        else:
            _log.warning("%s can be written by others; compiled kernels are not kept there", kept.cache_path)
    return made


@intrinsic
def _floats(_context, address):  # type: ignore[no-untyped-def]
    """The pointer of an address."""
    return types.CPointer(types.float32)(address), _as_pointer


@intrinsic
def _whole(_context, address):  # type: ignore[no-untyped-def]
    return types.CPointer(types.int64)(address), _as_pointer


def _as_pointer(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
    return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))


@intrinsic
def _float_of(_context, bits):  # type: ignore[no-untyped-def]
    """The float32 that has these bits."""
    return types.float32(types.int32), _same_bits


@intrinsic
def _bits_of(_context, number):  # type: ignore[no-untyped-def]
    return types.int32(types.float32), _same_bits


def _same_bits(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
    return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))


@njit(fastmath=_FAST, error_model="numpy", inline="always")
def _exp(x):  # type: ignore[no-untyped-def]
    """e**x to 2 units in the last place, without a call, so that a loop of it becomes vector instructions.

    2**k times a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes, `expf`). Below -87 and above 88 it stays where it is.
    """
    if x < _F(-87):
        x = _F(-87)
    if x > _F(88):
        x = _F(88)
    k = np.floor(x * _LOG2E + _F(0.5))
    r = x - k * _LN2_HIGH - k * _LN2_LOW
    p = _F(1.9875691500e-4)
    p = p * r + _F(1.3981999507e-3)
    p = p * r + _F(8.3334519073e-3)
    p = p * r + _F(4.1665795894e-2)
    p = p * r + _F(1.6666665459e-1)
    p = p * r + _F(5.0000001201e-1)
    p = p * r * r + r + _ONE
    return p * _float_of((_I(k) + _I(127)) << _I(23))


@njit(fastmath=_FAST, error_model="numpy", inline="always")
def _range(row, count):  # type: ignore[no-untyped-def]
    """Divide a row by its largest value, which is returned. Bits of positive floats have the order of the floats."""
    most = _I(0)
    for j in range(count):
        most = max(most, _bits_of(row[j]) & _I(0x7FFFFFFF))
    largest = _float_of(most)
    for j in range(count):
        row[j] /= largest
    return largest


@_kernel
def normed(x, more, scale, weight, y, largest, rows, width, epsilon):  # type: ignore[no-untyped-def]
    """RMSNorm of `x + more * scale` `[rows, width]` into `y`; the sum stays in `x`. `more` at address 0 is nothing."""
    xs, ys = carray(_floats(x), (rows, width)), carray(_floats(y), (rows, width))
    weights = carray(_floats(weight), (width,))
    for i in range(rows):
        at, out = xs[i], ys[i]
        squares = _ZERO
        if more != 0:
            added = carray(_floats(more), (rows, width))[i]
            factor = carray(_floats(scale), (rows,))[i] if scale != 0 else _ONE
            for j in range(width):
                value = at[j] + added[j] * factor
                at[j] = value
                squares += value * value
        else:
            for j in range(width):
                squares += at[j] * at[j]
        factor = _ONE / np.sqrt(squares / _F(width) + _F(epsilon))
        for j in range(width):
            out[j] = at[j] * factor * weights[j]
        if largest != 0:
            carray(_floats(largest), (rows,))[i] = _range(out, width)


@_kernel
def gated(both, scale, y, largest, rows, width):  # type: ignore[no-untyped-def]
    """`silu(gate) * up` of `both * scale` `[rows, 2 * width]` into `y` `[rows, width]`."""
    pairs, ys = carray(_floats(both), (rows, 2, width)), carray(_floats(y), (rows, width))
    for i in range(rows):
        factor = carray(_floats(scale), (rows,))[i] if scale != 0 else _ONE
        gate, up, out = pairs[i, 0], pairs[i, 1], ys[i]
        for j in range(width):
            value = gate[j] * factor
            out[j] = value / (_ONE + _exp(-value)) * (up[j] * factor)
        if largest != 0:
            carray(_floats(largest), (rows,))[i] = _range(out, width)


@_kernel
def attended(  # type: ignore[no-untyped-def]
    qkv, scale, cos, sin, positions, held, y, scores,
    rows, heads, kv_heads, size, places, length, softmax_scale, window, first, step,
):  # fmt: skip
    """One new token for each of the first places: turn it, keep its keys and values, and look at all up to it.

    Of the `rows * kv_heads` groups of queries, those at `first`, `first + step`, ...: groups have nothing in common.

    Args:
        qkv: `[rows, heads + 2 * kv_heads, size]`; queries are overwritten.
        cos, sin: `[rows, size]`, the sines with the sign of the half that they meet.
        positions: int64 `[rows]`.
        held: `[2, places, kv_heads, length, size]`.
        y: `[rows, heads, size]`.
        scores: `[length]`, to work in.
        window: how far back a token looks, itself included; 0 for all the way.
    """
    asked = carray(_floats(qkv), (rows, heads + 2 * kv_heads, size))
    cosines, sines = carray(_floats(cos), (rows, size)), carray(_floats(sin), (rows, size))
    store = carray(_floats(held), (2, places, kv_heads, length, size))
    ys, seen = carray(_floats(y), (rows, heads, size)), carray(_floats(scores), (length,))
    at = carray(_whole(positions), (rows,))
    half, each = size // 2, heads // kv_heads
    for group in range(first, rows * kv_heads, step):
        row, kv = group // kv_heads, group % kv_heads
        factor = carray(_floats(scale), (rows,))[row] if scale != 0 else _ONE
        c, s, last = cosines[row], sines[row], at[row]
        begin = max(0, last + 1 - window) if window > 0 else 0
        keys, values = store[0, row, kv], store[1, row, kv]
        new, kept = asked[row, heads + kv], keys[last]
        for j in range(half):
            low, high = new[j], new[j + half]
            kept[j] = (low * c[j] + high * s[j]) * factor
            kept[j + half] = (high * c[j + half] + low * s[j + half]) * factor
        new, kept = asked[row, heads + kv_heads + kv], values[last]
        for j in range(size):
            kept[j] = new[j] * factor
        factor *= _F(softmax_scale)
        for head in range(kv * each, kv * each + each):
            query, out = asked[row, head], ys[row, head]
            for j in range(half):
                low, high = query[j], query[j + half]
                query[j] = (low * c[j] + high * s[j]) * factor
                query[j + half] = (high * c[j + half] + low * s[j + half]) * factor
            top = _F(-np.inf)
            for z in range(begin, last + 1):
                key, found = keys[z], _ZERO
                for j in range(size):
                    found += query[j] * key[j]
                seen[z] = found
                top = max(top, found)
            total = _ZERO
            for z in range(begin, last + 1):
                share = _exp(seen[z] - top)
                seen[z] = share
                total += share
            for j in range(size):
                out[j] = _ZERO
            for z in range(begin, last + 1):
                share, value = seen[z], values[z]
                for j in range(size):
                    out[j] += share * value[j]
            total = _ONE / total
            for j in range(size):
                out[j] *= total


@_kernel
def ranged(y, largest, rows, width):  # type: ignore[no-untyped-def]
    """Divide each row of `y` `[rows, width]` by its largest value, kept in `largest` `[rows]`."""
    ys, most = carray(_floats(y), (rows, width)), carray(_floats(largest), (rows,))
    for i in range(rows):
        most[i] = _range(ys[i], width)
