"""Trees of behaviour that were kept, and how far traits follow the pedigree."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from lineage.evolution.comparative.signal import (
    Autocorrelation,
    blomberg_k,
    inverse_distance,
    morans_i,
    pagels_lambda,
)
from lineage.model import Estimate
from lineage.store import published_signal as published
from lineage.store.published_scope import Scope
from lineage.store.reports import read_reports
from lineage.views.verdicts import estimate_of

__all__ = [
    "LEAST_MEASURED",
    "Behaviour",
    "Branch",
    "Signal",
    "behaviours",
    "founders_of",
    "measured_traits",
    "read_newick",
    "signal",
]

Floats = NDArray[np.float64]

LEAST_MEASURED = 10
"""Measured models below which no signal is asked for."""
_MOST_MEASURED = 300
_N_PERMUTATIONS = 499
_MOST_CHARACTERS = 2_000_000


@dataclass(frozen=True, slots=True)
class Branch:
    """A node of a tree: its name (a tip's) or support in per cent, and where it hangs.

    `parent` is the number of the node above, −1 for the first; parents come before children.
    """

    name: str
    support: float
    parent: int
    length: float


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One kept study of what models say.

    Attributes
    ----------
    name
        Beginning of the digest of the prompts.
    tree
        Neighbour joining of Nei's distances, parents first; empty where there is none.
    against
        What was held against the lineage that the weights show, by name.
    predictions
        R² of each trait predicted from distances.
    """

    name: str
    models: tuple[str, ...]
    n_prompts: int
    chosen: str
    n_splits: int
    n_supported: int
    n_trees: int
    newick: str
    tree: tuple[Branch, ...]
    against: tuple[tuple[str, Estimate], ...]
    predictions: tuple[tuple[str, Estimate], ...]
    note: str
    document: str


@dataclass(frozen=True, slots=True)
class Signal:
    """How far one trait follows the pedigree.

    `n_related` counts the models with a relative among the `n_models`.
    """

    pagel: Estimate
    blomberg: Estimate
    moran: Autocorrelation
    n_models: int
    n_founders: int
    n_related: int


def behaviours(cursor: duckdb.DuckDBPyConnection) -> tuple[Behaviour, ...]:
    """Every kept study; documents that have not its form are left out."""
    found = []
    for name, text in read_reports(cursor, "behaviour").items():
        try:
            found.append(_behaviour(name, json.loads(text), text))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
    return tuple(found)


def _behaviour(name: str, document: Mapping[str, Any], text: str) -> Behaviour:
    study = document["study"]
    newick = str(study["newick"] or "")
    comparison, against = study["comparison"], []
    if comparison is not None:
        against = [
            ("relatives closer than strangers (½ is chance)", comparison["kinship"]),
            *((f"distances agree, in {unit}", one) for unit, one in comparison["cophenetic"]),
            ("share of the lineage's splits recovered", comparison["recovered"]),
            ("share of all splits that differ (Robinson–Foulds)", comparison["robinson_foulds"]),
        ]
    return Behaviour(
        name,
        tuple(str(one) for one in study["models"]),
        int(document["n_prompts"]),
        str(document["chosen"]),
        int(study["n_splits"]),
        int(study["n_supported"]),
        int(study["n_trees"]),
        newick,
        read_newick(newick) if newick else (),
        tuple((words, estimate_of(one)) for words, one in against),
        tuple((str(trait), estimate_of(one)) for trait, one in study["predictions"]),
        str(study["note"]),
        text,
    )


def founders_of(cursor: duckdb.DuckDBPyConnection, names: tuple[str, ...]) -> dict[str, str]:
    """Founders by model; unknown models are left out."""
    return dict(published.founders_of(cursor, list(names)))


_TOKEN = re.compile(r"\s*(?:'((?:[^']|'')*)'|([(),:;])|([^\s'(),:;]+))")


def read_newick(text: str) -> tuple[Branch, ...]:
    """The nodes of a tree in Newick's form, parents before their children.

    Raises
    ------
    ValueError
        If it is no tree of that form, or is longer than two million characters.

    Examples
    --------
    >>> [(one.name, one.parent, one.length) for one in read_newick("('a/b':1,c:2)90;")]
    [('', -1, 0.0), ('a/b', 0, 1.0), ('c', 0, 2.0)]
    """
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"a tree of {len(text)} characters is too long to be shown")
    name, parent, length = [""], [-1], [0.0]
    within: list[int] = []  # nodes whose brackets are open
    last, at, expects_length, ended = 0, 0, False, False
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None or ended:
            raise ValueError(f"no tree: stuck at character {at}")
        at = token.end()
        quoted, sign, word = token.groups()
        if sign in ("(", ","):
            if sign == "(":
                within.append(last)
            if not within:
                raise ValueError("no tree: two of them")
            name.append("")
            parent.append(within[-1])
            length.append(0.0)
            last = len(name) - 1
        elif sign == ")":
            if not within:
                raise ValueError("no tree: a bracket too many")
            last = within.pop()
        elif sign == ":":
            expects_length = True
        elif sign == ";":
            ended = True
        elif expects_length:
            length[last], expects_length = float(word or "nan"), False
        else:
            name[last] = quoted.replace("''", "'") if quoted is not None else word
    if not ended or within or len(name) == 1:
        raise ValueError("no tree: it does not end")
    inner = set(parent)
    return tuple(
        Branch(
            "" if k in inner else name[k],
            _percent(name[k]) if k in inner else math.nan,
            parent[k],
            length[k] if math.isfinite(length[k]) else 0.0,
        )
        for k in range(len(name))
    )


def _percent(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def measured_traits(cursor: duckdb.DuckDBPyConnection) -> tuple[tuple[str, int], ...]:
    """Numeric traits of enough models, and of how many, best known first."""
    return tuple(published.measured_traits(cursor, LEAST_MEASURED))


def signal(cursor: duckdb.DuckDBPyConnection, scope: Scope, trait: str) -> Signal | None:
    """Pagel's λ, Blomberg's K and Moran's I of a trait along primary parents.

    Each edge and each founder adds one unit of variance: two models share as much as they have
    ancestors in common, themselves and their founder among them. Of more than 300 measured models
    so many are drawn. None where fewer than :data:`LEAST_MEASURED` of the scope are measured.
    """
    found = published.measured_values(cursor, scope, trait, _MOST_MEASURED)
    values = found["value"].astype(float)
    if values.size < LEAST_MEASURED:
        return None
    lines = published.ancestors(cursor, scope, trait, _MOST_MEASURED)
    row = np.searchsorted(found["pos"], lines["pos"])
    _, column = np.unique(lines["above"], return_inverse=True)
    above = np.zeros((values.size, int(column.max()) + 1))
    above[row, column] = 1.0
    covariance = above @ above.T
    rng = np.random.default_rng(0)
    related = (covariance > 0).sum(axis=1) > 1
    return Signal(
        pagels_lambda(values, covariance).signal,
        blomberg_k(
            values, covariance, rng=rng, n_permutations=_N_PERMUTATIONS,
            n_simulations=_N_PERMUTATIONS,
        ),
        morans_i(
            values, np.where(covariance > 0, inverse_distance(covariance), 0.0), rng=rng,
            n_permutations=_N_PERMUTATIONS,
        ),
        values.size,
        np.unique(found["founder"].astype(str)).size,
        int(related.sum()),
    )  # fmt: skip
