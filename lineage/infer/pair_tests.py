"""Which pairs are tested, and the families that the tests make.

Few models are tested all with all. Of many, only candidates are
(:mod:`lineage.infer.candidates`), and of those only pairs that are not of one family already. The
candidates were picked by the very weights that are then tested, as one picks the smallest p-values
of all pairs; so each test is corrected for *all* pairs of the run, tested or not (Bonferroni over
what the screen looked at). A relative that the screen misses costs recall, never error.

Models of one and the same words are tested once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING

import networkx as nx

from lineage.infer.quantised import dequantised, is_quantised
from lineage.infer.relatedness import test_pair
from lineage.infer.twins import equal_words
from lineage.model import PairTest, PairVerdict
from lineage.weights.fingerprint import Fingerprint

if TYPE_CHECKING:
    from lineage.infer.candidates import Candidates
    from lineage.weights.sketch import ModelSketch

__all__ = ["PValues", "PairTests"]

_N_CANDIDATES = 50


@dataclass
class PairTests:
    """Family tests of one run, each computed once.

    Attributes
    ----------
    models
        Every model that may be tested, by name.
    """

    models: Mapping[str, Fingerprint]
    _tested: dict[tuple[str, str], PairTest] = field(default_factory=dict)
    _by_words: dict[tuple[str, str], PairTest] = field(default_factory=dict)
    _decoded: dict[str, Fingerprint] = field(default_factory=dict)

    @cached_property
    def n_pairs(self) -> int:
        """Pairs that were looked at, tested or passed over: the Bonferroni correction."""
        return max(1, len(self.models) * (len(self.models) - 1) // 2)

    @cached_property
    def _twins(self) -> list[list[str]]:
        return equal_words(self.models.values())

    @cached_property
    def _firsts(self) -> Mapping[str, str]:
        """For every model the first one with the same words."""
        return {name: twins[0] for twins in self._twins for name in twins}

    @property
    def rows(self) -> tuple[PairTest, ...]:
        """All tests so far."""
        return tuple(self._tested.values())

    def ask(self, a: str, b: str) -> PairTest:
        """The test of two models, ``a ≠ b``.

        Raises
        ------
        IncomparableError
            If their fingerprints are of different schemes.
        """
        a, b = min(a, b), max(a, b)
        if (a, b) not in self._tested:
            words = self._firsts[a], self._firsts[b]
            if words not in self._by_words:
                x, y = (self._plain(name) for name in words)
                self._by_words[words] = test_pair(x, y, self.n_pairs)
            self._tested[a, b] = replace(self._by_words[words], a=a, b=b)
        return self._tested[a, b]

    def ask_if_possible(self, a: str, b: str) -> None:
        """Test two models if they are two and both can be tested."""
        if a != b and a in self.models and b in self.models:
            self.ask(a, b)

    def ask_all(self) -> None:
        """Test every pair."""
        for a, b in combinations(self.models, 2):
            self.ask(a, b)

    def ask_candidates(
        self, sketches: Mapping[str, ModelSketch] | None = None, k: int = _N_CANDIDATES
    ) -> dict[str, tuple[str, ...]]:
        """Test candidate pairs, the likeliest first, where the two are not of one family already.

        Returns
        -------
        dict
            Candidates by model, of one model for each set of equal words that are related to
            themselves (words that say nothing, such as zeros, are not).
        """
        from lineage.infer.candidates import find_candidates, marks_of  # imports torch

        families = nx.utils.UnionFind(self.models)
        apart = []
        for twins in self._twins:
            apart.append(twins[0])
            for other in twins[1:]:
                if self.ask(twins[0], other).verdict is PairVerdict.RELATED:
                    families.union(twins[0], other)
                else:
                    apart.append(other)
        chosen = [self.models[name] for name in apart]
        found = find_candidates(marks_of(chosen, sketches), k)
        for a, b in _likeliest_first(found):
            if families[a] == families[b]:
                continue
            if self.ask(a, b).verdict is PairVerdict.RELATED:
                families.union(a, b)
        return found.lists()

    def families(self) -> list[list[str]]:
        """Sets of models that related pairs connect, single models too."""
        related = nx.Graph()
        related.add_nodes_from(self.models)
        related.add_edges_from(
            (pair.a, pair.b) for pair in self.rows if pair.verdict is PairVerdict.RELATED
        )
        return [sorted(members) for members in nx.connected_components(related)]

    def _plain(self, name: str) -> Fingerprint:
        fingerprint = self.models[name]
        if not is_quantised(fingerprint):
            return fingerprint
        if name not in self._decoded:
            self._decoded[name] = dequantised(fingerprint)
        return self._decoded[name]


def _likeliest_first(candidates: Candidates) -> Iterator[tuple[str, str]]:
    """Everybody's first candidate, then everybody's second …; models that stand apart from twins.

    A pair that is on both lists comes twice.
    """
    ids = candidates.ids
    for name, original in zip(ids, candidates.originals, strict=True):
        if ids[original] != name:
            yield name, ids[original]
    for column in candidates.others.T:
        for model, other in enumerate(column):
            if other >= 0:
                yield ids[model], ids[other]


class PValues(Mapping[frozenset[str], float]):
    """p-values of pairs, tested when first asked for; pairs that do not compare are absent."""

    def __init__(self, tests: PairTests) -> None:
        self._tests = tests

    def __getitem__(self, pair: frozenset[str]) -> float:
        known = [name for name in sorted(pair) if name in self._tests.models]
        if len(known) != 2:
            raise KeyError(pair)
        p_value = self._tests.ask(*known).p_value
        if p_value is None:
            raise KeyError(pair)
        return p_value

    def __iter__(self) -> Iterator[frozenset[str]]:
        return (frozenset((row.a, row.b)) for row in self._tests.rows if row.p_value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)
