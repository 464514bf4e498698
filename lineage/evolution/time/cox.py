"""Cox regression of the time to the first child, with tied times and late entries.

The code is our own because whoever has late entries needs it: statsmodels 0.15 keeps a model at
risk at the instant of its entry, which moves the Cox coefficients of tied counting-process data in
the second digit, and takes time quadratic in the models. Everything here agrees with R's
*survival* where R has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm
from scipy.stats import t as student_t

from lineage.evolution.time.survival import MIN_CLUSTERS, Lifetimes
from lineage.model import Estimate

__all__ = [
    "CoxFit",
    "cox",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Ties = Literal["efron", "breslow"]

_MAX_STEPS = 50
_TOLERANCE = 1e-11
_RUNAWAY = 30.0  # log hazard per standard deviation: no data say this, a separation does
_SINGULAR = 1e-10
_SPENT = 1e-6  # share of the information at 0 below which the likelihood has gone flat


@dataclass(frozen=True, eq=False)
class CoxFit:
    """Proportional hazards of the first child.

    Attributes
    ----------
    hazard_ratios
        By covariate, per unit of it; clustered where clusters were given.
    log_ratio : (p,)
        Coefficients, NaN where not estimated.
    covariance : (p, p)
        Inverse information: lifetimes independent.
    robust_covariance : (p, p)
        Lin & Wei's sandwich over the clusters (each row its own without), no small-sample factor.
    log_likelihood, null_log_likelihood
        Partial, at the estimate and at 0.
    concordance
        Chance that of two models the one with the higher hazard has its child first (Harrell),
        ties ½; clustered infinitesimal jackknife.
    """

    hazard_ratios: Mapping[str, Estimate]
    log_ratio: Floats
    covariance: Floats
    robust_covariance: Floats
    log_likelihood: float
    null_log_likelihood: float
    concordance: Estimate


def cox(
    lives: Lifetimes,
    covariates: Mapping[str, Floats],
    cluster: Ints | None = None,
    *,
    ties: Ties = "efron",
    level: float = 0.95,
) -> CoxFit:
    """Cox regression with tied times, late entry and counting-process rows.

    A model whose covariates change has several rows, each entered when the one before ends, all
    with the model's founder as their cluster.

    Parameters
    ----------
    lives
        Time at risk and how it ended.
    covariates
        By name, shape (n,); rows with a NaN are left out.
    cluster : (n,)
        Founder of each row. Without, intervals use the inverse information and the normal; with,
        the sandwich of score residuals (Lin & Wei 1989, J Am Stat Assoc 84:1074) times G/(G−1)
        and Student's t of G−1.
    ties
        Efron (1977), or Breslow (1974), which is rough where many share a day.

    Returns
    -------
    CoxFit
        All NaN, with the reason in each `method`, when there are no more events than covariates,
        fewer than 3 clusters, covariates that are constant or repeat each other, or one that
        separates those with a child from those without.

    Raises
    ------
    ValueError
        If there is no covariate, or lengths differ.

    Examples
    --------
    >>> import numpy as np
    >>> lives = Lifetimes.of(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1, 1, 1, 1]))
    >>> fit = cox(lives, {"x": np.array([1.0, 0.0, 1.0, 0.0])})
    >>> round(float(fit.log_ratio[0]), 4), round(fit.null_log_likelihood, 4)
    (0.9406, -3.1781)
    """
    names = list(covariates)
    if not names:
        raise ValueError("name at least one covariate")
    design = np.column_stack([np.asarray(values, dtype=float) for values in covariates.values()])
    if design.shape[0] != len(lives) or (cluster is not None and cluster.size != len(lives)):
        raise ValueError(f"{len(lives)} rows: give each every covariate and one cluster")
    keep = np.isfinite(lives.time) & np.isfinite(design).all(axis=1)
    lives, design = lives.where(keep), design[keep]
    group = np.arange(len(lives)) if cluster is None else cluster[keep]
    labels, group = np.unique(group, return_inverse=True)
    n_clusters = None if cluster is None else labels.size
    method = f"Cox regression, {ties.capitalize()} ties, {int(lives.event.sum())} events, " + (
        "inverse information, normal"
        if cluster is None
        else "founder-clustered sandwich (Lin & Wei 1989), t with G−1 df"
    )
    problem = _cox_problem(lives, design, labels.size if cluster is not None else None)
    fitted = None
    if problem is None:
        centre, scale = design.mean(axis=0), design.std(axis=0)
        partial = _Partial(lives, (design - centre) / scale, ties)
        fitted = _newton(partial)
        problem = "a covariate separates those with a child from those without"
    if fitted is None:
        nothing = Estimate(
            math.nan,
            math.nan,
            math.nan,
            level,
            len(lives),
            f"{method}; not estimated: {problem}",
            n_clusters,
        )
        empty = np.full((len(names), len(names)), np.nan)
        return CoxFit(
            dict.fromkeys(names, nothing), empty[0], empty, empty, math.nan, math.nan, nothing
        )
    standard, information = fitted
    bread = np.linalg.inv(information)
    scores = np.zeros((labels.size, len(names)))
    np.add.at(scores, group, partial.score_residuals(standard))
    sandwich = bread @ scores.T @ scores @ bread
    unit = np.outer(scale, scale)
    beta = standard / scale
    covariance, robust = bread / unit, sandwich / unit
    if cluster is None:
        error = np.sqrt(np.diag(covariance))
        reach = float(norm.ppf((1 + level) / 2)) * error
        p_values = 2 * norm.sf(np.abs(beta) / error)
    else:
        error = np.sqrt(np.diag(robust) * labels.size / (labels.size - 1))
        reach = float(student_t.ppf((1 + level) / 2, labels.size - 1)) * error
        p_values = 2 * student_t.sf(np.abs(beta) / error, labels.size - 1)
    ratios = {
        name: Estimate(
            math.exp(beta[k]),
            math.exp(beta[k] - reach[k]),
            math.exp(beta[k] + reach[k]),
            level,
            len(lives),
            f"{method}; SE of the log {error[k]:.4g}",
            n_clusters,
            float(p_values[k]),
        )
        for k, name in enumerate(names)
    }
    return CoxFit(
        ratios,
        beta,
        covariance,
        robust,
        partial.derivatives(standard)[0],
        partial.derivatives(np.zeros_like(standard))[0],
        _concordance(lives, partial.design @ standard, group, n_clusters, level),
    )


def _cox_problem(lives: Lifetimes, design: Floats, n_clusters: int | None) -> str | None:
    """Why nothing can be fitted, None when it can."""
    n_events = int(lives.event.sum())
    if n_events <= design.shape[1]:
        return f"{n_events} events for {design.shape[1]} covariates"
    if n_clusters is not None and n_clusters < MIN_CLUSTERS:
        return f"{n_clusters} independent groups, {MIN_CLUSTERS} needed"
    spread = np.ptp(design, axis=0)
    if (spread <= _SINGULAR * np.abs(design).max(axis=0)).any():
        return "a covariate does not vary"
    standard = (design - design.mean(axis=0)) / design.std(axis=0)
    if np.linalg.eigvalsh(standard.T @ standard / len(lives))[0] < _SINGULAR:
        return "covariates repeat each other"
    return None


class _Partial:
    """The partial likelihood of one data set.

    Sums over risk sets are differences of cumulative sums, as each row is at risk for a run of
    event times; sums over event times of sums over risk sets are taken in the other order. So a
    step costs O(n p²) and no second moment of any risk set is ever held.
    """

    def __init__(self, lives: Lifetimes, design: Floats, ties: Ties) -> None:
        self.design = design
        self.event = lives.event
        time, deaths = np.unique(lives.time[lives.event], return_counts=True)
        self.n_times = time.size
        self.start = np.searchsorted(time, lives.entry, side="right")
        self.stop = np.searchsorted(time, lives.time, side="right")
        self.own = self.stop[lives.event] - 1
        # One term for each event; Efron's l-th of d tied ones has shed l/d of their weight.
        self.term = np.repeat(np.arange(time.size), deaths)
        order = np.arange(self.term.size) - np.repeat(np.cumsum(deaths) - deaths, deaths)
        self.shed = order / deaths[self.term] if ties == "efron" else np.zeros(self.term.size)

    def _over_risk_sets(self, values: Floats) -> Floats:
        """Sum of `values` (n,) over the rows at risk at each event time."""
        gone = np.bincount(self.stop, weights=values, minlength=self.n_times + 1)
        came = np.bincount(self.start, weights=values, minlength=self.n_times + 1)
        return np.asarray(np.cumsum((gone - came)[::-1])[::-1][1:])

    def _terms(self, beta: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Linear predictor, its exponential, each term's denominator and mean covariate."""
        eta = self.design @ beta
        weight = np.exp(eta)
        tied = np.bincount(self.own, weights=weight[self.event], minlength=self.n_times)
        total = self._over_risk_sets(weight)[self.term] - self.shed * tied[self.term]
        mean = np.empty((self.term.size, beta.size))
        for k, column in enumerate(self.design.T):
            moment = weight * column
            tied = np.bincount(self.own, weights=moment[self.event], minlength=self.n_times)
            mean[:, k] = self._over_risk_sets(moment)[self.term] - self.shed * tied[self.term]
        return eta, weight, total, mean / total[:, None]

    def _along_rows(self, values: Floats) -> Floats:
        """Sum of per-term values over each row's run at risk, less what Efron sheds of it."""
        whole = np.bincount(self.term, weights=values, minlength=self.n_times)
        shed = np.bincount(self.term, weights=values * self.shed, minlength=self.n_times)
        summed = np.concatenate([[0.0], np.cumsum(whole)])
        rows = summed[self.stop] - summed[self.start]
        rows[self.event] -= shed[self.own]
        return np.asarray(rows)

    def derivatives(self, beta: Floats) -> tuple[float, Floats, Floats]:
        """Log partial likelihood, score, and information."""
        eta, weight, total, mean = self._terms(beta)
        value = float(eta[self.event].sum() - np.log(total).sum())
        score = self.design[self.event].sum(axis=0) - mean.sum(axis=0)
        hazard = weight * self._along_rows(1 / total)
        second = self.design.T @ (self.design * hazard[:, None])
        return value, score, second - mean.T @ mean

    def score_residuals(self, beta: Floats) -> Floats:
        """Each row's part in the score, shape (n, p): derivative of the score by its weight."""
        _, weight, total, mean = self._terms(beta)
        deaths = np.bincount(self.term, minlength=self.n_times)
        hazard = weight * self._along_rows(1 / total)
        residuals = np.empty_like(self.design)
        for k, column in enumerate(self.design.T):
            expected = np.bincount(self.term, weights=mean[:, k], minlength=self.n_times) / deaths
            residuals[:, k] = weight * self._along_rows(mean[:, k] / total) - column * hazard
            residuals[self.event, k] += column[self.event] - expected[self.own]
        return residuals


def _newton(partial: _Partial) -> tuple[Floats, Floats] | None:
    """Maximum of the partial likelihood and its information; None if there is none."""
    beta = np.zeros(partial.design.shape[1])
    value, score, information = partial.derivatives(beta)
    least = max(_SINGULAR, _SPENT * float(np.linalg.eigvalsh(information)[0]))
    for _ in range(_MAX_STEPS):
        if np.linalg.eigvalsh(information)[0] <= least:
            return None
        step = np.linalg.solve(information, score)
        # Half the Newton decrement is what the likelihood can still gain.
        if float(score @ step) < _TOLERANCE * (1 + abs(value)):
            # This close, one more step squares what error is left.
            return beta + step, partial.derivatives(beta + step)[2]
        # Halved until it climbs: far from the top a full step may overshoot.
        for _ in range(_MAX_STEPS):
            if np.abs(beta + step).max() <= _RUNAWAY:
                found = partial.derivatives(beta + step)
                if found[0] > value:
                    break
            step = step / 2
        else:
            return None
        beta = beta + step
        value, score, information = found
    return None


def _concordance(
    lives: Lifetimes, risk: Floats, group: Ints, n_clusters: int | None, level: float
) -> Estimate:
    """Harrell's C over pairs of an event and a row that outlasts it, watched at that time."""
    method = "concordance of hazard and order of first children (Harrell), infinitesimal jackknife"
    # Ranks of risks that differ by rounding alone are ties.
    _, rank = np.unique(np.round(risk, 10), return_inverse=True)
    n = len(lives)
    # Rows in order of leaving, events before those who are censored on the same day.
    leaving = np.lexsort((~lives.event, lives.time))
    events = leaving[lives.event[leaving]]
    entering = np.argsort(lives.entry, kind="stable")
    at = lives.time[events]
    outlast = np.searchsorted(lives.time[leaving], at, side="left") + (
        np.searchsorted(at, at, side="right") - np.searchsorted(at, at, side="left")
    )
    late = np.searchsorted(lives.entry[entering], at, side="left")
    end = np.full(events.size, n)
    below, tied, pairs = np.zeros((3, n), dtype=np.int64)  # of each row, as event or partner
    lower, same = (
        _count_below(rank[leaving], outlast, end, rank[events] + more)
        - _count_below(rank[entering], late, end, rank[events] + more)
        for more in (0, 1)
    )
    below[events], tied[events] = lower, same - lower
    pairs[events] = (n - outlast) - (n - late)
    first = np.searchsorted(at, lives.entry, side="right")
    last = np.where(
        lives.event,
        np.searchsorted(at, lives.time, side="left"),
        np.searchsorted(at, lives.time, side="right"),
    )
    lower, same = (_count_below(rank[events], first, last, rank + more) for more in (0, 1))
    concordant = below + (last - first - same)
    tied = tied + same - lower
    pairs = pairs + last - first
    total = int(pairs.sum())  # each pair twice, which cancels
    if not total:
        return Estimate(
            math.nan,
            math.nan,
            math.nan,
            level,
            n,
            f"{method}; not estimated: no two rows can be compared",
            n_clusters,
        )
    won = concordant + tied / 2
    value = float(won.sum()) / total
    sums = np.bincount(group, weights=won - value * pairs) * 2 / total
    reach = float(norm.ppf((1 + level) / 2)) * math.sqrt(float(sums @ sums))
    return Estimate(
        value, max(value - reach, 0.0), min(value + reach, 1.0), level, n, method, n_clusters
    )


def _count_below(ranks: Ints, low: Ints, high: Ints, limit: Ints) -> Ints:
    """How many of ``ranks[low:high]`` lie below `limit`, for many queries at once.

    A wavelet matrix (Claude & Navarro 2012): bit by bit from the highest, ranks are split into
    zeros and ones and each query follows its limit. O((n + queries) log n).
    """
    count = np.zeros(limit.size, dtype=np.int64)
    highest = max(int(limit.max(initial=0)), int(ranks.max(initial=0)))
    for bit in reversed(range(highest.bit_length())):
        ones = (ranks >> bit) & 1
        zeros = np.concatenate([[0], np.cumsum(1 - ones)])
        taken = (limit >> bit) & 1 == 1
        count += np.where(taken, zeros[high] - zeros[low], 0)
        low, high = (np.where(taken, zeros[-1] + i - zeros[i], zeros[i]) for i in (low, high))
        ranks = np.concatenate([ranks[ones == 0], ranks[ones == 1]])
    return count
