"""Replaying SLERP: one t, a t per layer, or several by filter (Shoemake 1985).

The angle between two parents belongs to whole tensors, as the child stores them (GPT-2 keeps
queries, keys and values in one). Where a tensor was read whole it is computed; where only rows of
it were read, theirs is where the search begins: the angle is one continuous unknown, and of a small
neighbourhood the value is taken with which most words come out. That costs no certainty about the
recipe, which has thousands of words for every such number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

from lineage.infer.geometry import Pool
from lineage.infer.gradients import BY_CHANCE, FLOAT32_NOISE, WordIntervals, shortest_list, value_at
from lineage.infer.merges import Mixture
from lineage.infer.replay import Replay, n_equal, recipe_text
from lineage.infer.sphere import LINEAR_ABOVE, cosine_between, slerp_shares, sphere_shares
from lineage.weights.encodings import TORCH_NAMES, round_to
from lineage.weights.roles import TensorKey

__all__ = ["line_or_sphere", "position_of", "replay_slerp", "t_of"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_FILTERS = {
    "self_attn": frozenset({"q", "k", "v", "o", "q_norm", "k_norm"}),
    "mlp": frozenset({"gate", "up", "down"}),
    "layernorm": frozenset(
        {"attn_norm", "ffn_norm", "post_attn_norm", "pre_ffn_norm", "post_ffn_norm"}
    ),
    "embed_tokens": frozenset({"embed"}),
    "lm_head": frozenset({"head"}),
}
"""What recipes filter by, as tensors of Llama-like models are called, and the roles it holds."""
_ELSEWHERE = ""
_T_REACH = 1.0
"""How far from a fitted t words are followed, on either side."""
_ANGLE_REACH = 0.3
"""By which share `1 − cosine` of the rows that were read may differ from the whole tensor's."""
_ANGLE_NOISE = 2.0**-13
"""What an angle that is a little off does to a word: nothing to 16 bits, but to float32."""
_NEIGHBOURS = 4
_TURNS = 2
_DIGITS = 9

_Setting = tuple[float, ...]


def line_or_sphere(pool: Pool, child: str, parents: Sequence[str]) -> str:
    """What a merge of two parents cannot tell: whether it was made on the line or on the sphere.

    Returns
    -------
    str
        A sentence; empty where every tensor can tell.
    """
    p = [pool.ids.index(name) for name in parents]
    cosines = _cosines(pool, child, [values[p] for values in pool.values])
    near = sum(abs(cosine) > LINEAR_ABOVE for cosine in cosines)
    if not near:
        return ""
    n_tensors = len(pool.values)
    which = "all" if near == n_tensors else f"{near} of"
    return (
        f"in {which} {n_tensors} tensors the parents' cosine is above {LINEAR_ABOVE}, where SLERP "
        "interpolates on the line"
        + ("; a linear merge gives the same words" if near == n_tensors else "")
    )


def _cosines(pool: Pool, child: str, both: Sequence[F32]) -> list[float]:
    """For every tensor of the pool, the cosine of two models' whole tensor that holds it."""
    found = [1.0] * len(both)
    for places in pool.stored_together(child):
        x, y = (np.concatenate([both[at][n].ravel() for at in places]) for n in range(2))
        cosine = cosine_between(x, y)
        for at in places:
            found[at] = cosine
    return found


@dataclass(frozen=True)
class _Pair:
    """One tensor of two parents and of the child."""

    key: TensorKey
    x: F32
    y: F32
    words: F32
    cosine: float

    def response(self, at: float, dtype: str) -> WordIntervals:
        """What each word says of t; best known near `at`."""
        if abs(self.cosine) > LINEAR_ABOVE:
            values, slopes = (1 - at) * self.x + at * self.y, self.y - self.x
        else:
            shares, to_t, _ = sphere_shares(at, self.cosine)
            values, slopes = self._sum(shares), self._sum(to_t)
        return WordIntervals.around(
            at, values, slopes, self.words, dtype, reach=_T_REACH,
            noise=_ANGLE_NOISE if dtype == "F32" else FLOAT32_NOISE,
        )  # fmt: skip

    def n_replayed(self, t: float, dtype: str) -> int:
        """Words that come out."""
        return self._count(slerp_shares(t, self.cosine), dtype)

    def refined(self, t: float, dtype: str) -> _Pair:
        """The same with the cosine near the sample's that gives most words with this t."""
        n_best = self.n_replayed(t, dtype)
        if n_best == self.words.size or not 0 < t < 1 or abs(self.cosine) == 1:
            return self
        tried = [self, *(replace(self, cosine=one) for one in self._cosines(t, dtype))]
        return max(tried, key=lambda pair: pair.n_replayed(t, dtype))

    def _cosines(self, t: float, dtype: str) -> Iterator[float]:
        """The line, the cosine that the words ask for, and the float32 values beside it.

        mergekit's own float32 sums are off by some units in the last place, too.
        """
        yield 1.0
        shares, _, to_cosine = sphere_shares(t, self.cosine)
        reach = _ANGLE_REACH * (1 - abs(self.cosine))
        asked = WordIntervals.around(
            self.cosine, self._sum(shares), self._sum(to_cosine), self.words, dtype, reach=reach
        )
        if np.isfinite(asked.peak).all():
            centre = np.float32(sum(asked.peak) / 2)
            spacing = np.spacing(centre)
            for n in range(-_NEIGHBOURS, _NEIGHBOURS + 1):
                yield float(centre + np.float32(n) * spacing)

    def _count(self, shares: tuple[float, float], dtype: str) -> int:
        first, second = np.float32(shares[0]), np.float32(shares[1])
        return n_equal(round_to(dtype, first * self.x + second * self.y), self.words)

    def _sum(self, shares: F64) -> F32:
        return np.asarray(shares[0] * self.x + shares[1] * self.y, dtype=np.float32)


def replay_slerp(
    pool: Pool, child: str, dtype: str, mixture: Mixture, bases: Sequence[str] = ()
) -> Replay | None:
    """Interpolation between two parents with one t, a t per layer, or several by filter.

    Every stored word allows an interval of t. The words of one kind of tensor in one layer together
    leave a narrow one; the shortest lists of the roundest anchors that meet them all make the
    recipe. The heavier parent is written first (t and 1 − t are the same merge); `bases` are not
    asked.

    Returns
    -------
    Replay or None
        None unless there are two parents. `remark` says how many tensors' cosines lie above .9995,
        where SLERP *is* the line.
    """
    if len(mixture.parents) != 2:
        return None
    p = [pool.ids.index(name) for name in mixture.parents]
    finer = any(not np.array_equal(round_to(dtype, v[p]), v[p]) for v in pool.values)
    replays = [
        _replay_in(computed_in, pool, child, dtype, mixture)
        for computed_in in ((dtype, "F32") if finer else (dtype,))
    ]
    return max(replays, key=lambda replay: replay.match)


def _replay_in(computed_in: str, pool: Pool, child: str, dtype: str, mixture: Mixture) -> Replay:
    """The best recipe if mergekit loaded the parents in a number type."""
    c = pool.ids.index(child)
    first, second = mixture.parents
    p = [pool.ids.index(name) for name in (first, second)]
    both = [round_to(computed_in, values[p]) for values in pool.values]
    pairs = [
        _Pair(key, x, y, values[c], cosine)
        for key, (x, y), values, cosine in zip(
            pool.keys, both, pool.values, _cosines(pool, child, both), strict=True
        )
    ]
    fitted = [
        t_of(coefficients, pair.cosine)
        for coefficients, pair in zip(mixture.coefficients, pairs, strict=True)
    ]
    n_layers = 1 + max(pair.key.layer for pair in pairs)
    t = fitted
    for _ in range(_TURNS):  # t and angles tell of each other
        settings = _settings(_blocks(pairs, t, dtype), n_layers)
        t = [_t_at(settings, pair.key, n_layers) for pair in pairs]
        pairs = [pair.refined(at, dtype) for pair, at in zip(pairs, t, strict=True)]
    sizes = np.array([pair.words.size for pair in pairs], dtype=np.float64)
    share = float((np.array(t) * sizes).sum() / sizes.sum())
    if (round(share, _DIGITS), settings[next(iter(settings))][0]) > (0.5, 0.5):
        first, second, share = second, first, 1 - share
        pairs = [replace(pair, x=pair.y, y=pair.x) for pair in pairs]
        settings = {
            name: tuple(round(1 - anchor, _DIGITS) for anchor in anchors)
            for name, anchors in settings.items()
        }
        t = [_t_at(settings, pair.key, n_layers) for pair in pairs]
    equal = sum(pair.n_replayed(at, dtype) for pair, at in zip(pairs, t, strict=True))
    out = TORCH_NAMES.get(dtype, "float32")
    recipe = {
        "merge_method": "slerp",
        "base_model": first,
        "models": [{"model": first}, {"model": second}],
        "parameters": {"t": _written(settings)},
        "dtype": TORCH_NAMES.get(computed_in, "float32"),
    }
    return Replay(
        "slerp",
        (first, second),
        (round(1 - share, _DIGITS), round(share, _DIGITS)),
        equal / float(sizes.sum()),
        recipe_text(recipe if computed_in == dtype else recipe | {"out_dtype": out}),
        base=first,
        remark=line_or_sphere(pool, child, (first, second)),
    )


def t_of(coefficients: F64, cosine: float) -> float:
    """The t whose shares on the sphere (or the line) have the ratio of fitted ones; ½ if none."""
    first, second = float(coefficients[0]), float(coefficients[1])
    if abs(cosine) > LINEAR_ABOVE:
        t = second / (first + second) if first + second else 0.5
    else:
        angle = float(np.arccos(cosine))
        t = float(np.arctan2(second * np.sin(angle), first + second * np.cos(angle)) / angle)
    return min(1.0, max(0.0, t)) if np.isfinite(t) else 0.5


# ---- where one t holds, and how it is written ------------------------------------------------


def _filter_of(key: TensorKey) -> str:
    role = key.role.removesuffix(".bias")
    return next((name for name, roles in _FILTERS.items() if role in roles), _ELSEWHERE)


def position_of(layer: int, n_layers: int) -> float:
    """Where in a gradient mergekit reads a layer; what is outside the layers is read at 0."""
    if layer < 0:
        return 0.0
    return layer / (n_layers - 1) if n_layers > 1 else 1.0


_Blocks = Mapping[tuple[str, int], WordIntervals]


def _blocks(pairs: Sequence[_Pair], fitted: Sequence[float], dtype: str) -> _Blocks:
    """What the words of one layer and one filter say of t, together.

    They are asked twice: about the fitted t, which rounding draws off by some hundredths, and about
    what they answered.
    """
    members: dict[tuple[str, int], list[int]] = {}
    for n, pair in enumerate(pairs):
        members.setdefault((_filter_of(pair.key), pair.key.layer), []).append(n)
    blocks = {}
    for place, numbers in members.items():
        sizes = np.array([pairs[n].words.size for n in numbers], dtype=np.float64)
        at = float((np.array([fitted[n] for n in numbers]) * sizes).sum() / sizes.sum())
        for _ in range(2):
            asked = WordIntervals.joined([pairs[n].response(at, dtype) for n in numbers])
            at = sum(asked.peak) / 2 if np.isfinite(asked.peak).all() else at
        blocks[place] = asked
    return blocks


def _settings(blocks: _Blocks, n_layers: int) -> dict[str, _Setting]:
    """Anchors by filter, with those of everything else last: the fewest numbers that will do.

    Every number that a recipe has more must win some words.
    """

    def listed(places: Sequence[tuple[str, int]]) -> tuple[_Setting, int]:
        return shortest_list([(position_of(at[1], n_layers), blocks[at]) for at in places])

    names = [name for name in _FILTERS if any(name == place[0] for place in blocks)]
    alone = {name: listed([place for place in blocks if place[0] == name]) for name in names}
    best: tuple[float, dict[str, _Setting]] | None = None
    for own in chain.from_iterable(combinations(names, n) for n in range(len(names) + 1)):
        rest = [place for place in blocks if place[0] not in own]
        known = sum(alone[name][1] + BY_CHANCE * (1 + len(alone[name][0])) for name in own)
        if best is not None and known >= best[0]:
            continue
        anchors, lost = listed(rest) if rest else ((0.5,), 0)
        settings = {name: alone[name][0] for name in own} | {_ELSEWHERE: anchors}
        cost = known + lost + BY_CHANCE * len(anchors)
        if best is None or cost < best[0]:
            best = cost, settings
    assert best is not None
    return best[1]


def _t_at(settings: Mapping[str, _Setting], key: TensorKey, n_layers: int) -> float:
    anchors = settings.get(_filter_of(key), settings[_ELSEWHERE])
    return value_at(anchors, position_of(key.layer, n_layers))


def _written(settings: Mapping[str, _Setting]) -> object:
    """The parameter as a recipe has it: a number, a gradient, or either by filter."""
    values = {
        name: anchors[0] if len(anchors) == 1 else list(anchors)
        for name, anchors in settings.items()
    }
    if len(values) == 1:
        return values[_ELSEWHERE]
    return [
        {"filter": name, "value": value} if name else {"value": value}
        for name, value in values.items()
    ]
