"""What the ways to settle a merge have in common: who is asked, and how a recipe is told."""

from __future__ import annotations

from collections.abc import Sequence

from lineage.infer.replay import Replay
from lineage.infer.settle.family import OpenFamily
from lineage.model import Evidence, Finding, Grade, Kind, ParentShare

__all__ = ["MOST_OF_ONE", "PROVED_REPLAY", "by_recipe", "shares_of_sum", "without_merges"]

PROVED_REPLAY = 0.99
"""Share of the words read that a recipe must give."""
MOST_OF_ONE = 0.95
"""Share from which a mixture is one model, changed."""


def without_merges(family: OpenFamily, candidates: Sequence[str]) -> list[str]:
    """Those of the candidates that are not known to be merges themselves."""
    return [
        name
        for name in candidates
        if name not in family.findings or family.findings[name].kind is not Kind.MERGE
    ]


def by_recipe(
    child: str, best: Replay, *facts: Evidence, doubt: str = "", asked: str = "stored words"
) -> Finding:
    """A merge by a recipe that replays: proved, or inferred where a `doubt` is left.

    `asked` says which words the recipe was asked for.
    """
    words = f"the {best.method} recipe gives {100 * best.match:.2f} % of the {asked}"
    return Finding(
        child,
        Kind.MERGE,
        Grade.INFERRED if doubt else Grade.PROVED,
        shares_of_sum(best.parents, best.weights),
        base=best.base,
        method=best.method,
        evidence=(Evidence("words_replayed", best.match, words), *facts),
        recipe_yaml=best.recipe_yaml,
        note=doubt or best.remark,
    )


def shares_of_sum(parents: Sequence[str], weights: Sequence[float]) -> tuple[ParentShare, ...]:
    """Weights as shares of their sum, the largest first."""
    total = sum(weights)
    total = total if abs(total) > 1e-9 else 1.0
    shares = (
        ParentShare(name, weight / total) for name, weight in zip(parents, weights, strict=True)
    )
    return tuple(sorted(shares, key=lambda share: -share.weight))
