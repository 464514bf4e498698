"""Who descends from whom among models of one shape, copies taken out and exact merges known.

1. *Root.* Every model is tried as the founder, and the log-likelihoods of the arrows and dates
   that lead from it to all others, each capped, are pooled: single arrows err often, the pooled
   root seldom.
2. *Ancestors.* Seen from the root, X is an ancestor of C when C carries nearly all of X's change
   (later training wears some of it off: β(C|X) between .80 and 1.04), X does not carry more of C's,
   and the words that X changed are kept rather than back as they were. A larger share is descent
   only if three quarters of those words are kept, since parallel training overshoots too. The
   parent is the ancestor nearest to C; the root if there is none.
3. *Trained merges.* A child with no such ancestor that carries parts of at least two models, which
   add up, is a merge whose exact recipe is not (yet) known.

The instruments and their measured errors are described in ``docs/inference.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from lineage.infer.geometry import Inheritance, Pool
from lineage.model import Evidence

__all__ = ["Descent", "Root", "choose_root", "resolve_descent"]

_ARROW_SCALE = 3.0
_EDGE_CAP = 3.0
_DATE_LOG_ODDS = 5.0
_MAX_VOTES = 3
_SAME_TIME = timedelta(hours=1)
_DECIDED = 1.0
_LEAST_SHARE = 0.80
_LARGEST_SHARE = 1.04
_NEAR_COPY = 0.05
_CLEARLY_KEPT = 0.75
_NOT_REVERTED = 0.45
_MIN_WORDS = 1000
_N_ERRORS = 2.5
_MAX_ERROR = 0.04
_MIN_SHARE = 0.12
_SHARE_ERRORS = 4.0
_WHOLE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Root:
    """The model that everything else descends from, and the log-odds against the next best."""

    model: str
    log_odds: float

    @property
    def decided(self) -> bool:
        """Whether the evidence is worth an assertion."""
        return self.log_odds >= _DECIDED


@dataclass(frozen=True, slots=True)
class Descent:
    """Where one model stands: parents with shares, or ties."""

    child: str
    parents: tuple[tuple[str, float, float], ...]
    """Parent, share, standard error of the share."""
    ties: tuple[str, ...]
    evidence: tuple[Evidence, ...]


def date_log_odds(
    child: str, parent: str, dates: Mapping[str, datetime | None], cap: float = _DATE_LOG_ODDS
) -> float:
    """Log-odds that `parent` came first, from upload dates; 0 when unknown or equal."""
    born, origin = dates.get(child), dates.get(parent)
    if born is None or origin is None or abs(born - origin) < _SAME_TIME:
        return 0.0
    return cap if origin < born else -cap


def choose_root(pool: Pool, nodes: Sequence[str], dates: Mapping[str, datetime | None]) -> Root:
    """Choose the founder of one family by pooled evidence.

    Every other model votes on every candidate R with its arrow ``⟨X−R, R⟩/‖X−R‖²`` (about 0 from
    the founder, −½ from a sibling, below from a descendant), trusted less the larger its standard
    error. These votes share R's own position, so together they count as no more than three. Every
    model uploaded before R speaks against R.

    Raises
    ------
    ValueError
        If `nodes` is empty.
    """
    if not nodes:
        raise ValueError("a family needs at least one model")
    if len(nodes) == 1:
        return Root(nodes[0], float("inf"))
    index = [pool.ids.index(name) for name in nodes]
    arrow = pool.arrow[np.ix_(index, index)]
    error = pool.arrow_error[np.ix_(index, index)]
    weight = min(len(nodes) - 1, _MAX_VOTES) / (len(nodes) - 1)
    scores = []
    for root, name in enumerate(nodes):
        arrows, order_in_time = 0.0, 0.0
        for child, other in enumerate(nodes):
            if child == root:
                continue
            if np.isfinite(arrow[child, root]):
                trust = 1 / (1 + (2 * float(error[child, root])) ** 2)
                witness = 2 * _ARROW_SCALE * (float(arrow[child, root]) + 0.5)
                arrows += trust * float(np.clip(witness, -_EDGE_CAP, _EDGE_CAP))
            order_in_time += min(0.0, date_log_odds(other, name, dates))
        scores.append(weight * arrows + order_in_time)
    order = np.argsort(scores)[::-1]
    return Root(nodes[int(order[0])], float(scores[order[0]] - scores[order[1]]))


def resolve_descent(
    pool: Pool,
    root: str,
    children: Sequence[str],
    dates: Mapping[str, datetime | None],
    known: Mapping[str, Sequence[str]],
) -> tuple[Descent, ...]:
    """Find the parents of `children`, all descendants of `root`.

    Parameters
    ----------
    pool
        Values of the family, exact merges included.
    known
        Parents that are already established (merges, rearrangements): their children are not
        resolved again, and no ancestor of a model may become its child.
    """
    seen = pool.instrumented(root)
    settled = dict(known)
    found = []
    for child in children:
        if child != root:
            descent = _resolve_one(pool, seen, child, dates, settled)
            settled[child] = tuple(parent for parent, _, _ in descent.parents)
            found.append(descent)
    return tuple(found)


def _resolve_one(
    pool: Pool,
    seen: Inheritance,
    child: str,
    dates: Mapping[str, datetime | None],
    known: Mapping[str, Sequence[str]],
) -> Descent:
    barred = _descendants(child, known) | {child, seen.reference}
    others = [
        name for name in pool.ids if name not in barred and date_log_odds(child, name, dates) >= 0
    ]
    c = pool.ids.index(child)
    ancestors: list[tuple[float, str, float, float]] = []
    unclear: list[str] = []
    for name in others:
        x = pool.ids.index(name)
        beta, error = float(seen.beta[c, x]), float(seen.beta_error[c, x])
        if not np.isfinite(beta) or not np.isfinite(error):
            continue
        slack = _N_ERRORS * error
        if error > _MAX_ERROR:
            if _LEAST_SHARE - slack <= beta <= _LARGEST_SHARE + slack:
                unclear.append(name)
        elif (
            beta >= _LEAST_SHARE
            and float(seen.beta[x, c]) < beta + max(slack, _NEAR_COPY)
            and _keeps_words(pool, child, name, seen.reference, beta <= _LARGEST_SHARE + slack)
        ):
            ancestors.append((float(pool.squared_distance[c, x]), name, beta, error))
    if ancestors:
        _, parent, beta, error = min(ancestors)
        facts = (
            Evidence(
                "inherited_share",
                beta,
                f"carries {100 * beta:.1f} ± {100 * error:.1f} % of what {parent} had changed "
                f"since {seen.reference}",
            ),
            _arrow_fact(pool, child, parent),
        )
        return Descent(child, ((parent, 1.0, error),), (), facts)
    mixture = _trained_merge(seen, child, others)
    if mixture is not None:
        return mixture
    closest = max(
        (
            (beta, name)
            for name in others
            if np.isfinite(beta := float(seen.beta[c, pool.ids.index(name)]))
        ),
        default=(float("nan"), ""),
    )
    facts = (
        Evidence(
            "largest_inherited_share",
            closest[0] if np.isfinite(closest[0]) else None,
            f"carries the whole change of no other relative (most: {100 * closest[0]:.0f} % of "
            f"{closest[1]})"
            if closest[1]
            else "no earlier relative changed since the founder",
        ),
        _arrow_fact(pool, child, seen.reference),
    )
    ties = (seen.reference, *unclear) if unclear else ()
    return Descent(child, ((seen.reference, 1.0, 0.0),), ties, facts)


def _keeps_words(pool: Pool, child: str, ancestor: str, reference: str, plausible: bool) -> bool:
    """Whether the words that `ancestor` changed speak for descent.

    With a plausible share they must not speak against it (about half are kept even where later
    training moved nearly every word); a share above one, as when training went on in the same
    direction, needs three quarters of them, which parallel training does not reach.
    """
    kept, reverted = pool.inherited_words(child, ancestor, reference)
    n = kept + reverted
    if plausible:
        return bool(kept >= _NOT_REVERTED * n - np.sqrt(n))
    return kept >= _CLEARLY_KEPT * n and n >= _MIN_WORDS


def _arrow_fact(pool: Pool, child: str, parent: str) -> Evidence:
    arrow = float(pool.arrow[pool.ids.index(child), pool.ids.index(parent)])
    if not np.isfinite(arrow):
        return Evidence("arrow", None, f"no sampled word differs from {parent}")
    return Evidence(
        "arrow",
        arrow,
        f"arrow {arrow:+.2f} (above −0.5 speaks for this direction, below against it)",
    )


def _trained_merge(seen: Inheritance, child: str, others: Sequence[str]) -> Descent | None:
    """Parents of a merge that was trimmed, rescaled or trained on: joint shares that add up."""
    movers = [
        name
        for name in others
        if seen.own[seen.ids.index(name)] > 0.02 * seen.own[seen.ids.index(child)]
    ]
    shares, errors = seen.shares(child, movers)
    chosen = [
        (name, float(share), float(error))
        for name, share, error in zip(movers, shares, errors, strict=True)
        if share >= _MIN_SHARE and share > _SHARE_ERRORS * error
    ]
    total = sum(share for _, share, _ in chosen)
    chosen.sort(key=lambda item: -item[1])
    if len(chosen) < 2 or not 0.75 <= total <= 1.6 or chosen[0][1] >= _WHOLE_SHARE:
        return None
    listed = ", ".join(f"{100 * share:.0f} % of {name}" for name, share, _ in chosen)
    fact = Evidence("joint_shares", total, f"carries, jointly fitted, {listed}")
    return Descent(
        child,
        tuple((name, share / total, error / total) for name, share, error in chosen),
        (),
        (fact,),
    )


def _descendants(model: str, known: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    frontier = {model}
    while frontier:
        frontier = {child for child, parents in known.items() if frontier & set(parents)} - found
        found |= frontier
    return found
