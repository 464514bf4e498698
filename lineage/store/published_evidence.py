"""Reads of the published database for the page Evidence."""

from __future__ import annotations

from typing import Any

import duckdb

__all__ = ["coefficients_of", "layers_of_edge", "matches_of_edge", "pair_of", "recipes_of"]

Row = tuple[Any, ...]


def layers_of_edge(cursor: duckdb.DuckDBPyConnection, child: str, parent: str) -> list[Row]:
    """What a child and a parent show of each other by layer: the columns of ``edge_layer``."""
    return cursor.execute(
        "SELECT child, parent, layer, parent_layer, n_words, n_equal, relative_change, n_codes,"
        " n_replayed, coefficient FROM edge_layer WHERE child = ? AND parent = ?"
        " ORDER BY layer NULLS FIRST",
        [child, parent],
    ).fetchall()


def matches_of_edge(cursor: duckdb.DuckDBPyConnection, child: str, parent: str) -> list[Row]:
    """Roles, and z of each layer of the child against each layer of the parent."""
    return cursor.execute(
        "SELECT roles, z FROM edge_match WHERE child = ? AND parent = ? ORDER BY layer",
        [child, parent],
    ).fetchall()


def coefficients_of(cursor: duckdb.DuckDBPyConnection, child: str) -> list[Row]:
    """Layer, parent and coefficient of a merge, fitted by all its parents together."""
    return cursor.execute(
        "SELECT layer, parent, coefficient FROM edge_layer"
        " WHERE child = ? AND coefficient IS NOT NULL ORDER BY layer NULLS FIRST, parent",
        [child],
    ).fetchall()


def pair_of(cursor: duckdb.DuckDBPyConnection, one: str, other: str) -> Row | None:
    """The family test of two models: verdict, z, p-value, equal words; None: not tested."""
    rows = cursor.execute(
        "SELECT a, b, verdict, statistic, p_value, bit_equality FROM pair"
        " WHERE a = least($1, $2) AND b = greatest($1, $2) ORDER BY run_id DESC LIMIT 1",
        [one, other],
    ).fetchall()
    return rows[0] if rows else None


def recipes_of(cursor: duckdb.DuckDBPyConnection, child: str) -> list[Row]:
    """Recipes that a repository states: source, method and the YAML (text from strangers)."""
    return cursor.execute(
        "SELECT source, method, text FROM recipe WHERE child = ? ORDER BY source, position",
        [child],
    ).fetchall()
