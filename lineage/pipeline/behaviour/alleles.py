"""From next-token probabilities to the characters that come next, whatever the vocabulary.

A token may be longer or shorter than the characters wanted, or a part of one. Continuations are
followed as a tree: what is long enough adds its probability to an allele, what is too short is
followed by another call of the model, as long as it is probable enough to matter. So the
frequencies are the model's own, up to a remainder that is told, and no draw is made.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lineage.errors import UsageError

__all__ = ["Alleles", "BehaviourSettings", "Vocabulary", "counted", "drawn", "next_characters"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Ids = tuple[int, ...]
Probabilities = Callable[[Sequence[Ids]], Iterator[tuple[int, Floats]]]
"""Of token sequences, in any order: which one, and the distribution of its next token."""

MOST_CHARACTERS = 8
_LEAST_FOLLOWED = 1e-3  # probability of a continuation that is still worth a call
_MOST_CALLS = 64  # of the model, for one prompt
_LEAST_KEPT = 1e-4  # frequency of an allele that is still worth a place in a file
_LEAST_ADDED = 1e-6  # probability that is still worth adding up
_MOST_EXTRA_TOKENS = 6  # beyond one a character: parts of characters, tokens without text
_BROKEN = "\ufffd"  # stands for bytes that are not yet a character


@dataclass(frozen=True, slots=True)
class BehaviourSettings:
    """How continuations become alleles; results of different settings have different files.

    Attributes
    ----------
    characters
        Length of an allele; shorter where the text ends.
    temperature
        Of the model's distribution; zero: its likeliest token only.
    samples
        Continuations drawn per prompt; None: frequencies are computed.
    seed
        Of the draws.
    """

    characters: int = 2
    temperature: float = 1.0
    samples: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.characters <= MOST_CHARACTERS:
            raise UsageError(f"alleles have from 1 to {MOST_CHARACTERS} characters")
        if not 0 <= self.temperature <= 10:
            raise UsageError("the temperature must lie between 0 and 10")
        if self.samples is not None and self.samples < 2:
            raise UsageError("at least two continuations must be drawn per prompt")
        if self.seed < 0:
            raise UsageError("the seed must not be negative")


@dataclass(frozen=True, slots=True)
class Alleles:
    """What comes next at one prompt: characters to frequency, the most frequent first.

    They sum to one less what was not followed further, which is spread over rare alleles. A text
    shorter than the settings say ends there.
    """

    frequencies: Mapping[str, float]

    @property
    def unresolved(self) -> float:
        """Probability of what was not followed."""
        return max(0.0, 1.0 - sum(self.frequencies.values()))


class Vocabulary:
    """Texts of the tokens as they read inside a text.

    Parameters
    ----------
    texts
        Text of each token number; U+FFFD where its bytes are no whole character.
    ends
        Tokens that end the text, as all special ones are taken to do.
    void
        Numbers that stand for no token.
    decode
        Text of several tokens in a row.
    """

    def __init__(
        self,
        texts: Sequence[str],
        ends: NDArray[np.bool_],
        void: NDArray[np.bool_],
        decode: Callable[[Ids], str],
    ) -> None:
        self.texts = tuple(texts)
        self.ends = ends
        self.void = void
        self.decode = decode
        self.heads = cache(self._heads)

    def _heads(self, length: int) -> tuple[list[str], Ints]:
        """First `length` characters of tokens that have as many, and which of them is whose.

        The second is −1 for tokens that end, are void, or are too short.
        """
        number: dict[str, int] = {}
        head = np.full(len(self.texts), -1, dtype=np.int64)
        for token, text in enumerate(self.texts):
            whole = text.partition(_BROKEN)[0]
            if len(whole) >= length and not (self.ends[token] or self.void[token]):
                head[token] = number.setdefault(whole[:length], len(number))
        return list(number), head


@dataclass(frozen=True, slots=True)
class _Open:
    """A continuation that is too short as yet; `pending` are tokens of a broken character."""

    prompt: int
    mass: float
    tokens: Ids = ()
    text: str = ""
    pending: Ids = ()


@dataclass(slots=True)
class _Gathered:
    """What is known of one prompt so far."""

    shares: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: int = 0


def next_characters(
    prompts: Sequence[Ids],
    probabilities: Probabilities,
    vocabulary: Vocabulary,
    characters: int,
) -> list[Alleles]:
    """The distribution of the next characters at each prompt.

    Parameters
    ----------
    prompts
        As token numbers.
    probabilities
        The model.
    vocabulary
        Its tokens.
    characters
        How many are wanted.

    Notes
    -----
    Continuations of a probability below 0.001, and those beyond 64 calls for one prompt, the least
    probable first, are not followed, and alleles below 0.0001 are not kept.
    """
    gathered = [_Gathered() for _ in prompts]
    waiting = [_Open(number, 1.0) for number in range(len(prompts))]
    for _ in range(characters + _MOST_EXTRA_TOKENS):
        chosen = _affordable(waiting, gathered)
        waiting = []
        for place, distribution in probabilities([prompts[o.prompt] + o.tokens for o in chosen]):
            one = chosen[place]
            waiting += _read(one, distribution, vocabulary, characters, gathered[one.prompt].shares)
        if not waiting:
            break
    return [_ordered(one.shares) for one in gathered]


def _affordable(waiting: Sequence[_Open], gathered: Sequence[_Gathered]) -> list[_Open]:
    """The likeliest continuations of each prompt that its calls still reach for."""
    chosen = []
    for one in sorted(waiting, key=lambda one: -one.mass):
        if gathered[one.prompt].calls < _MOST_CALLS:
            gathered[one.prompt].calls += 1
            chosen.append(one)
    return chosen


def _read(
    one: _Open,
    distribution: Floats,
    vocabulary: Vocabulary,
    characters: int,
    shares: dict[str, float],
) -> list[_Open]:
    """Add what the next token settles to `shares`; returns what must be followed further."""
    ended = float(distribution[vocabulary.ends].sum())
    if ended > 0:
        left = vocabulary.decode(one.pending) if one.pending else ""
        shares[(one.text + left)[:characters]] += one.mass * ended
    is_open = ~(vocabulary.ends | vocabulary.void)
    if not one.pending:
        labels, head = vocabulary.heads(characters - len(one.text))
        settled = head >= 0
        sums = np.bincount(head[settled], distribution[settled], minlength=len(labels))
        for label in np.flatnonzero(one.mass * sums >= _LEAST_ADDED):
            shares[one.text + labels[label]] += one.mass * float(sums[label])
        is_open &= ~settled
    following = []
    for token in np.flatnonzero(is_open & (one.mass * distribution >= _LEAST_FOLLOWED)):
        longer = _with_token(one, int(token), one.mass * float(distribution[token]), vocabulary)
        if len(longer.text) >= characters:
            shares[longer.text[:characters]] += longer.mass
        else:
            following.append(longer)
    return following


def _with_token(one: _Open, token: int, mass: float, vocabulary: Vocabulary) -> _Open:
    """The continuation with one token more; whole characters move from `pending` to `text`."""
    pending = (*one.pending, token)
    said = vocabulary.decode(pending) if one.pending else vocabulary.texts[token]
    whole, broken, _ = said.partition(_BROKEN)
    if broken and len(pending) < 4:  # no character has more bytes
        # Characters before the broken one would be decoded again with it.
        return _Open(one.prompt, mass, (*one.tokens, token), one.text, pending)
    return _Open(one.prompt, mass, (*one.tokens, token), one.text + (said if broken else whole))


def _ordered(shares: Mapping[str, float]) -> Alleles:
    kept = [(text, share) for text, share in shares.items() if share >= _LEAST_KEPT]
    return Alleles(dict(sorted(kept, key=lambda item: (-item[1], item[0]))))


def drawn(alleles: Alleles, n_samples: int, rng: np.random.Generator) -> Alleles:
    """Frequencies in `n_samples` draws from known ones; what was not resolved is never drawn."""
    texts = list(alleles.frequencies)
    shares = np.array(list(alleles.frequencies.values()))
    counts = rng.multinomial(n_samples, shares / shares.sum())
    return counted([text for text, n in zip(texts, counts, strict=True) for _ in range(n)])


def counted(texts: Sequence[str]) -> Alleles:
    """Frequencies among texts, at least one."""
    shares = Counter(texts)
    return Alleles({text: n / len(texts) for text, n in shares.most_common()})
