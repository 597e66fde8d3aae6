"""Optimal code lengths of at most 15 bits (section 3.9), by package-merge, for many histograms at once.

Package-merge (Larmore and Hirschberg, 1990): 15 lists, each the symbols merged in order of weight with the neighbouring
pairs of the list before; the cheapest ``2n - 2`` items of the last list make the code, and a symbol's length is the
number of lists in which it is chosen. A histogram is a row, a list is a matrix; no loop runs over rows or symbols.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from libreseed import limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["code_lengths"]

_BITS = limits.CODE_BITS


def code_lengths(weights: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Code lengths for each row of ``weights`` (rows, 256), at most 2**40 in total; 0 where the weight is 0.

    A row with one symbol gives it length 1; a row without any is all zero.
    """
    rows, symbols = weights.shape
    if not rows:
        return np.zeros((0, symbols), np.uint8)
    present = weights > 0
    used = present.sum(axis=1)
    # A package holds a symbol at most once per list; the flag doubles it. What is absent weighs more than all others.
    narrow = int(weights.sum(axis=1).max()) * 2 * _BITS < 1 << 29
    dtype: Any = np.int32 if narrow else np.int64
    absent = 1 << 29 if narrow else 1 << 60
    keys = np.where(present, weights << 1, absent).astype(dtype)
    order = np.argsort(keys, axis=1, kind="stable")
    leaves = np.take_along_axis(keys, order, axis=1)
    counts = _leaves_chosen(_lists(leaves, absent), 2 * used - 2)
    ranked = (counts[:, :, None] > np.arange(symbols)).sum(axis=0, dtype=np.uint8)
    lengths = np.zeros((rows, symbols), np.uint8)
    np.put_along_axis(lengths, order, ranked, axis=1)
    lengths[(used == 1)[:, None] & present] = 1
    return lengths


def _lists(leaves: NDArray[Any], absent: int) -> list[NDArray[Any]]:
    """The lists of keys, cheapest first; an even key is a symbol, an odd one a package. All further lists are equal."""
    most = 2 * leaves.shape[1] - 2
    lists = [leaves]
    while len(lists) < _BITS:
        last = lists[-1] & ~1
        packages = last[:, 0::2] + last[:, 1::2]
        np.minimum(packages, absent, out=packages)
        merged = np.concatenate((leaves, packages | 1), axis=1)
        merged.sort(axis=1)
        merged = merged[:, :most]
        if merged.shape == lists[-1].shape and np.array_equal(merged, lists[-1]):
            break
        lists.append(merged)
    return lists


def _leaves_chosen(lists: list[NDArray[Any]], need: NDArray[Any]) -> NDArray[np.int64]:
    """How many symbols are chosen from each list, (lists, rows), when ``need`` items are taken from the last one."""
    counts = np.zeros((_BITS, len(need)), np.int64)
    need = np.maximum(need, 0)
    for level in range(_BITS):
        if not need.any():
            break
        items = lists[min(_BITS - 1 - level, len(lists) - 1)]
        chosen = np.arange(items.shape[1]) < need[:, None]
        packages = np.count_nonzero(chosen & ((items & 1) == 1), axis=1)
        counts[level] = need - packages
        need = 2 * packages
    return counts
