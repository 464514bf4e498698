"""Ids of simulated models: words of real ids, recombined, each id unique and its own index.

A name's first two words spell the index, permuted. So ids cannot collide, in lower case either,
and an id leads to its index without a table of millions. The rest of a name (size, format,
revision) is that of the real row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from benchmarks.hub_draws import Draws, Ints
from benchmarks.hub_rows import Row
from crawler.records import is_repo_id

__all__ = ["CAPACITY", "Names"]

_OWNERS_PER_MODEL = 0.23
_OWNER_SKEW = 3.0  # the largest owner has about one model in a hundred, most have a few

_WORD_BITS = 12
CAPACITY = 1 << 2 * _WORD_BITS
_WORD_MASK = (1 << _WORD_BITS) - 1
_LOW = CAPACITY - 1
_ODD = (0x9E3779 | 1, 0x85EBCB | 1)
_MAX_WORD = 12
_MAX_TAIL = 96 - 2 * _MAX_WORD - 1 - 2 * _MAX_WORD - 1  # an id has at most 96 characters
_SEPARATORS = (b"-", b"-", b"-", b"-", b"-", b"-", b"_", b".")


class Names:
    """The ids of a population.

    Raises
    ------
    ValueError
        The rows' names have too few words.
    """

    def __init__(self, rows: Sequence[Row], draws: Draws, n_models: int) -> None:
        owners, names = zip(*(row.repo_id.split("/", 1) for row in rows), strict=True)
        usual = _usual_words(names)
        self._draws = draws
        self._n_owners = max(1, int(n_models * _OWNERS_PER_MODEL))
        self._words = [word.encode() for word in usual]
        self._numbers = {word.lower(): k for k, word in enumerate(usual)}
        self._tails = [_tail_of(name).encode() for name in names]
        halves = [
            (owner[: (len(owner) + 1) // 2], owner[(len(owner) + 1) // 2 :])
            for owner in sorted(set(owners))
        ]
        self._owner_heads = [head[:_MAX_WORD].rstrip("-_.").encode() for head, _ in halves]
        self._owner_tails = [tail[:_MAX_WORD].rstrip("-_.").encode() for _, tail in halves]

    def owners_and_names(self, index: Ints, rows: Ints) -> tuple[list[bytes], list[bytes]]:
        """The two halves of each model's id; `rows` is what the models are drawn from."""
        draws = self._draws
        owner = (self._n_owners * draws.share("owner", index) ** _OWNER_SKEW).astype(np.int64)
        heads = draws.below("owner head", len(self._owner_heads), owner).tolist()
        ends = draws.below("owner tail", len(self._owner_tails), owner).tolist()
        owner_heads, owner_tails = self._owner_heads, self._owner_tails
        owners = [owner_heads[h] + owner_tails[t] for h, t in zip(heads, ends, strict=True)]
        spelled = _permute(index, draws.seed)
        firsts, seconds = (spelled >> _WORD_BITS).tolist(), (spelled & _WORD_MASK).tolist()
        between = draws.below("separator", len(_SEPARATORS), index).tolist()
        words, tails = self._words, self._tails
        names = [
            words[a] + _SEPARATORS[s] + words[b] + tails[row]
            for a, s, b, row in zip(firsts, between, seconds, rows.tolist(), strict=True)
        ]
        return owners, names

    def spelled_index(self, repo_id: str) -> int | None:
        """The only index whose model can have this id; None when there is none."""
        words = re.split("[-_.]", repo_id.partition("/")[2].lower())[:2]
        numbers = [self._numbers[word] for word in words if word in self._numbers]
        if len(numbers) < 2:
            return None
        spelled = np.array([numbers[0] << _WORD_BITS | numbers[1]])
        return int(_restore(spelled, self._draws.seed)[0])


def _permute(index: Ints, seed: int) -> Ints:
    """A bijection of 0 … CAPACITY - 1, so that neighbours in time have unlike names."""
    state = index ^ (seed & _LOW)
    for odd in _ODD:
        state = state * odd & _LOW
        state = state ^ (state >> _WORD_BITS)
    return state


def _restore(spelled: Ints, seed: int) -> Ints:
    state = spelled
    for odd in reversed(_ODD):
        state = state ^ (state >> _WORD_BITS)
        state = state * pow(odd, -1, CAPACITY) & _LOW
    return state ^ (seed & _LOW)


def _usual_words(names: Sequence[str]) -> list[str]:
    """The most frequent words, one for each pair of twelve bits, different in lower case."""
    counts: Counter[str] = Counter()
    spellings: dict[str, str] = {}
    for name in names:
        for word in re.split("[-_.]", name):
            if word.isascii() and word.isalnum() and len(word) <= _MAX_WORD:
                counts[word.lower()] += 1
                spellings.setdefault(word.lower(), word)
    needed = 1 << _WORD_BITS
    if len(counts) < needed:
        raise ValueError(f"names need {needed} different words, the rows have {len(counts)}")
    return [spellings[word] for word, _ in counts.most_common(needed)]


def _tail_of(name: str) -> str:
    """What follows a name's second word."""
    match = re.match(r"[^-_.]*[-_.]+[^-_.]*", name)
    tail = name[match.end() : match.end() + _MAX_TAIL].rstrip("-_.") if match else ""
    return tail if is_repo_id(f"owner/two-words{tail}") else ""
