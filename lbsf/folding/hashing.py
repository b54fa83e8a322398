"""Text to hash buckets. CRC-32 of UTF-8, so that any language can reproduce a bucket."""

from __future__ import annotations

from zlib import crc32

import numpy as np
import polars as pl
from numpy.typing import NDArray

# Marks belong to words: without them Devanagari, Thai or a decomposed accent would be cut up.
WORD = r"[\p{L}\p{M}\p{N}]+"


def text_bucket(text: str | None, buckets: int) -> int:
    """The bucket of a whole text: 0 for None, else 1 to buckets - 1. Case and outer blanks do not count.

    >>> text_bucket(" Groceries ", 512) == text_bucket("groceries", 512)
    True
    """
    return 0 if text is None else 1 + crc32(text.strip().lower().encode()) % (buckets - 1)


def word_bucket(word: str, buckets: int) -> int:
    """The bucket of a word, 1 to buckets - 1; case does not count."""
    return 1 + crc32(word.lower().encode()) % (buckets - 1)


def text_buckets(texts: pl.Series, buckets: int) -> NDArray[np.int32]:
    """`text_bucket` of each text; each distinct text is hashed once."""
    codes, distinct = _encode(texts)
    return np.fromiter((text_bucket(text, buckets) for text in distinct), np.int32, len(distinct))[codes]


def word_buckets(texts: pl.Series, max_words: int, buckets: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The buckets of each text's first words: maximal runs of letters, marks and digits.

    Args:
        texts: n strings or nulls; null and a text without words have no word.
        max_words: words kept of a text.
        buckets: size of the hash space.

    Returns:
        int32[n] words of each text, and int32[their sum] the buckets in order.
    """
    codes, distinct = _encode(texts)
    words = distinct.fill_null("").str.extract_all(WORD).list.head(max_words)
    word_codes, vocabulary = _encode(words.explode().drop_nulls())
    hashed = np.fromiter((word_bucket(word, buckets) for word in vocabulary), np.int32, len(vocabulary))
    lengths = words.list.len().cast(pl.Int32).to_numpy()
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    return lengths[codes], hashed[word_codes][ragged_index(starts[codes], lengths[codes])]


def ragged_index(starts: NDArray[np.int64], lengths: NDArray[np.int32]) -> NDArray[np.int64]:
    """Indices start, start + 1, ... (length of them) for each pair, one after the other.

    >>> ragged_index(np.array([7, 0]), np.array([2, 3])).tolist()
    [7, 8, 0, 1, 2]
    """
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    shifts: NDArray[np.int64] = np.repeat(starts - (ends - lengths), lengths)
    return np.arange(total, dtype=np.int64) + shifts


def _encode(texts: pl.Series) -> tuple[NDArray[np.int64], pl.Series]:
    """Each text's index among the distinct ones, and these."""
    # Arrow's dictionary encoding takes half the time of a unique and a join in Polars.
    encoded = texts.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode(null_encoding="encode")
    codes: NDArray[np.int64] = encoded.indices.to_numpy().astype(np.int64)
    return codes, pl.Series(encoded.dictionary, dtype=pl.String)
