"""Hashes texts to buckets, by CRC-32 of their UTF-8 bytes, which any language can reproduce."""

from __future__ import annotations

from typing import NamedTuple, Self
from zlib import crc32

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

# Combining marks (\p{M}) are part of words: otherwise Devanagari, Thai and decomposed accents would be split.
WORD = r"[\p{L}\p{M}\p{N}]+"


class Words(NamedTuple):
    """The words of k texts: int32[k] number of words of each text, and int32[sum of these] their buckets in order."""

    lengths: NDArray[np.int32]
    buckets: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.lengths)

    def concat(self, other: Self) -> Words:
        """Return the words of these texts, then of the other's."""
        return Words(
            np.concatenate([self.lengths, other.lengths]),
            np.concatenate([self.buckets, other.buckets]),
        )

    def of(self, texts: NDArray[np.int32]) -> Words:
        """Return the words of the texts at these positions."""
        offsets = np.zeros(len(self.lengths) + 1, np.int64)
        np.cumsum(self.lengths, out=offsets[1:])
        # Arrow copies whole lists, several times faster than indexing each word.
        words = pa.LargeListArray.from_arrays(offsets, pa.array(self.buckets)).take(pa.array(texts))
        return Words(self.lengths[texts], words.flatten().to_numpy())


def user_bucket(user_id: str, buckets: int) -> int:
    """Return the storage bucket of a user, 0 to buckets - 1.

    >>> user_bucket("u1", 8), user_bucket("u2", 8)
    (6, 4)
    """
    return crc32(user_id.encode()) % buckets


def text_bucket(text: str | None, buckets: int) -> int:
    """Return the bucket of a whole text: 0 for None, else 1 to buckets - 1. Case and outer blanks are ignored.

    >>> text_bucket(" Groceries ", 512) == text_bucket("groceries", 512)
    True
    """
    return 0 if text is None else 1 + crc32(text.strip().lower().encode()) % (buckets - 1)


def word_bucket(word: str, buckets: int) -> int:
    """Return the bucket of a word, 1 to buckets - 1. Case is ignored."""
    return 1 + crc32(word.lower().encode()) % (buckets - 1)


def text_buckets(texts: pl.Series, buckets: int) -> NDArray[np.int32]:
    """Return the `text_bucket` of each of n texts, int32[n]."""
    return np.fromiter((text_bucket(text, buckets) for text in texts), np.int32, len(texts))


def word_buckets(texts: pl.Series, max_words: int, buckets: int) -> Words:
    """Split each text into words and return the buckets of the first ones.

    A word is a maximal run of letters, marks and digits.

    Args:
        texts: n strings or nulls; a null has no words.
        max_words: most words kept of a text.
        buckets: size of the hash space.
    """
    words = texts.cast(pl.String).fill_null("").str.extract_all(WORD).list.head(max_words)
    # Each distinct word is hashed once. Arrow's dictionary encoding takes half the time of unique and join in Polars.
    flat = words.explode().drop_nulls().to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
    vocabulary = flat.dictionary.to_pylist()
    hashed = np.fromiter((word_bucket(word, buckets) for word in vocabulary), np.int32, len(vocabulary))
    return Words(words.list.len().cast(pl.Int32).to_numpy(), hashed[flat.indices.to_numpy()])


def ragged_index(starts: NDArray[np.int64], lengths: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenate the ranges [start, start + length) of all pairs.

    >>> ragged_index(np.array([7, 0]), np.array([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    if total and np.array_equal(starts[1:], starts[0] + ends[:-1]):
        return np.arange(starts[0], starts[0] + total, dtype=np.int64)  # the ranges are contiguous
    shifts: NDArray[np.int64] = np.repeat(starts - (ends - lengths), lengths)
    return np.arange(total, dtype=np.int64) + shifts
