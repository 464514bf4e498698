"""Tiles of the atlas: nothing is lost or counted twice, and bytes give back what was put in."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import fields
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lineage.store import atlas_tiles as tiles
from lineage.store.atlas_tiles import (
    BASE_ROWS,
    FACETS,
    LEAF_MODELS,
    NO_DATE,
    TILE_ROWS,
    UNDATED,
    Cells,
    Forest,
    decode_cells,
    decode_leaf,
    encode_cells,
    encode_leaf,
    leaves,
    pyramid,
    time_bins,
)

N_CATEGORIES = sum(len(facet.categories) for facet in FACETS)
FIRST_OF = np.cumsum([0, *[len(facet.categories) for facet in FACETS]])


def make_forest(n: int, seed: int, *, undated: float = 0.1, years: float = 4.0) -> Forest:
    """A random forest in preorder; a tenth of the models has no date."""
    rng = np.random.default_rng(seed)
    depth, parent, stack = 0, [], []
    for i in range(n):
        depth = int(rng.integers(0, depth + 2)) if i else 0
        stack = stack[:depth]
        parent.append(stack[-1] if stack else -1)
        stack.append(i)
        depth = len(stack) - 1
    size = np.ones(n, dtype=np.uint32)
    for i in range(n - 1, 0, -1):
        if parent[i] >= 0:
            size[parent[i]] += size[i]
    begin = int(datetime(2022, 3, 2, tzinfo=UTC).timestamp())
    created = begin + (rng.random(n) * years * 365.25 * 86_400).astype(np.int64)
    created[rng.random(n) < undated] = UNDATED
    codes = np.stack([rng.integers(0, len(facet.categories), n) for facet in FACETS], axis=1)
    return Forest(created, np.array(parent, dtype=np.int64), size, codes.astype(np.uint8))


forests = st.builds(
    make_forest,
    st.integers(1, 5000),
    st.integers(0, 2**32 - 1),
    undated=st.sampled_from([0.0, 0.1, 1.0]),
    years=st.sampled_from([0.001, 1.0, 4.0, 21.0]),
)


def same(a, b):
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))


def naive_counts(forest, bins, rows_of):
    """Counter of (row, column, category) by a loop over the models."""
    found = Counter()
    for position, when in enumerate(forest.created.tolist()):
        column = bins.n_bins
        if when != UNDATED:
            column = sum(when - bins.start >= edge for edge in bins.edges.tolist()) - 1
        for facet, code in enumerate(forest.codes[position].tolist()):
            found[position // rows_of, column, int(FIRST_OF[facet]) + code] += 1
    return found


def counted(forest, bins):
    """Counters by level, from the tiles as they are read back."""
    levels: dict[int, Counter] = {}
    for level, tile, cells in pyramid(forest, bins):
        read = decode_cells(encode_cells(cells))
        assert same(read, cells)
        places = zip(read.row.tolist(), read.column.tolist(), strict=True)
        for (row, column), counts in zip(places, read.counts.tolist(), strict=True):
            for category, count in enumerate(counts):
                if count:
                    key = (tile * TILE_ROWS + row, column, category)
                    levels.setdefault(level, Counter())[key] += count
    return levels


@settings(max_examples=12)
@given(forests)
@example(make_forest(4500, 5))
def test_every_level_counts_every_model_once_where_it_stands(forest):
    bins = time_bins(forest.created)
    levels = counted(forest, bins)
    for level, found in levels.items():
        assert found == naive_counts(forest, bins, BASE_ROWS << level)
    assert sum(levels[max(levels)].values()) == len(FACETS) * len(forest.created)


@settings(max_examples=25)
@given(forests)
def test_one_tile_at_the_top_and_never_an_empty_level(forest):
    sizes = Counter(level for level, _, _ in pyramid(forest, time_bins(forest.created)))
    assert sorted(sizes) == list(range(len(sizes)))
    assert sizes[max(sizes)] == 1
    for level, n_tiles in sizes.items():
        assert n_tiles == -(-len(forest.created) // (TILE_ROWS * BASE_ROWS << level))


@settings(max_examples=25)
@given(forests)
def test_every_model_stands_in_the_leaves_exactly_once_and_as_it_was(forest):
    bins = time_bins(forest.created)
    read = [decode_leaf(encode_leaf(leaf)) for leaf in leaves(forest, bins)]
    assert [len(leaf.seconds) for leaf in read[:-1]] == [LEAF_MODELS] * (len(read) - 1)
    seconds = np.concatenate([leaf.seconds for leaf in read]).astype(np.int64)
    created = np.where(seconds == NO_DATE, UNDATED, seconds + bins.start)
    assert np.array_equal(created, forest.created)
    assert np.array_equal(np.concatenate([leaf.codes for leaf in read]), forest.codes)
    assert np.array_equal(np.concatenate([leaf.size for leaf in read]), forest.size)


@settings(max_examples=15)
@given(forests)
@example(make_forest(4500, 5))
def test_lines_lead_to_the_primary_parent_and_to_the_last_child(forest):
    bins = time_bins(forest.created)
    parent, created = forest.parent.tolist(), forest.created.tolist()
    last = {above: child for child, above in enumerate(parent) if above >= 0}
    for number, leaf in enumerate(leaves(forest, bins)):
        assert same(decode_leaf(encode_leaf(leaf)), leaf)
        base = number * LEAF_MODELS
        for i, when in enumerate(leaf.parent_seconds.tolist()):
            above = parent[base + i]
            known = above >= 0 and created[above] != UNDATED
            assert when == (created[above] - bins.start if known else NO_DATE)
            assert leaf.reach[i] == last.get(base + i, base + i) - base - i
        # All that come in from above, found among all models and not along the chain of parents.
        trunks = {
            (created[above] - bins.start, last[above] - base)
            for above in range(base)
            if last.get(above, -1) >= base and created[above] != UNDATED
        }
        found = zip(leaf.trunk_seconds.tolist(), leaf.trunk_reach.tolist(), strict=True)
        assert set(found) == trunks


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=30))
def test_bins_are_whole_months_hold_every_date_and_are_few(dates):
    created = np.array([*dates, UNDATED], dtype=np.int64)
    bins = time_bins(created)
    assert 1 <= bins.n_bins <= tiles.MAX_BINS
    assert bins.edges[0] == 0
    assert bins.start <= min(dates)
    assert max(dates) < bins.start + bins.edges[-1]
    for edge in bins.edges.tolist():
        when = datetime.fromtimestamp(bins.start + edge, UTC)
        assert (when.day, when.hour, when.minute, when.second) == (1, 0, 0, 0)


def test_four_years_have_a_bin_for_each_month():
    ends = [datetime(2022, 3, 5, tzinfo=UTC), datetime(2026, 11, 20, tzinfo=UTC)]
    bins = time_bins(np.array([int(end.timestamp()) for end in ends]))
    assert bins.n_bins == 57
    assert datetime.fromtimestamp(bins.start, UTC) == datetime(2022, 3, 1, tzinfo=UTC)


def test_a_month_more_than_fit_makes_every_bin_longer():
    begin = np.datetime64("2020-01").astype("datetime64[s]").astype(np.int64)
    for months, n_bins in ((60, 60), (61, 31), (120, 60), (121, 41)):
        last = (np.datetime64("2020-01") + months - 1).astype("datetime64[s]").astype(np.int64)
        assert time_bins(np.array([begin, last])).n_bins == n_bins


def test_a_model_made_on_the_stroke_of_a_bin_stands_in_it():
    strokes = [datetime(2024, month, 1, tzinfo=UTC).timestamp() for month in (1, 2, 3)]
    created = np.array([*strokes, strokes[2] - 1], dtype=np.int64)
    codes = np.zeros((4, len(FACETS)), dtype=np.uint8)
    forest = Forest(created, np.full(4, -1), np.ones(4, dtype=np.uint32), codes)
    (_, _, cells), *_ = pyramid(forest, time_bins(created))
    assert cells.column.tolist() == [0, 1, 2]
    assert cells.counts[:, 0].tolist() == [1, 2, 1]


def test_models_without_any_date_stand_in_one_lane():
    forest = make_forest(300, 1, undated=1.0)
    bins = time_bins(forest.created)
    assert bins.n_bins == 0
    (_, _, cells), *rest = pyramid(forest, bins)
    assert not rest
    assert set(cells.column.tolist()) == {0}
    assert cells.counts[:, : FIRST_OF[1]].sum() == 300


def test_a_forest_without_models_has_no_tiles():
    forest = make_forest(0, 1)
    assert not list(leaves(forest, time_bins(forest.created)))
    assert not list(pyramid(forest, time_bins(forest.created)))


def test_a_chain_of_parents_does_not_fill_a_leaf_with_lines():
    n = 5000
    # Every model has the next as a child, and the founder's last child is the last model of all.
    parent = np.arange(-1, n - 1)
    codes = np.zeros((n, len(FACETS)), dtype=np.uint8)
    comb = Forest(np.arange(n) + 1_700_000_000, parent, np.arange(n, 0, -1, dtype=np.uint32), codes)
    for leaf in leaves(comb, time_bins(comb.created)):
        assert len(leaf.trunk_seconds) <= 1
    # A comb: each of the first half has a further child in the second half, in reverse order.
    half = n // 2
    parent[half:] = np.arange(half - 1, -1, -1)
    for leaf in leaves(comb, time_bins(comb.created)):
        assert len(leaf.trunk_seconds) <= tiles.MAX_TRUNKS


def test_damaged_foreign_and_swollen_blocks_are_refused():
    forest = make_forest(1500, 3)
    bins = time_bins(forest.created)
    leaf = encode_leaf(next(leaves(forest, bins)))
    cells = encode_cells(next(pyramid(forest, bins))[2])
    for damaged in (b"", b"nonsense", leaf[:-3], leaf + b"x"):
        with pytest.raises(ValueError, match="atlas"):
            decode_leaf(damaged)
    with pytest.raises(ValueError, match="no counts"):
        decode_cells(zlib.compress(zlib.decompress(cells)[:-1]))
    with pytest.raises(ValueError, match="no single models"):
        decode_leaf(zlib.compress(zlib.decompress(leaf)[:-1]))
    with pytest.raises(ValueError, match="longer"):
        decode_cells(zlib.compress(bytes(1 << 24)))
    with pytest.raises(ValueError, match="longer"):
        decode_leaf(zlib.compress(bytes(1 << 24)))


def test_categories_and_cells_out_of_range_are_refused():
    forest = make_forest(10, 3)
    bins = time_bins(forest.created)
    forest.codes[4, 1] = len(FACETS[1].categories)
    with pytest.raises(ValueError, match="unknown category"):
        decode_leaf(encode_leaf(next(leaves(forest, bins))))
    counts = np.zeros((1, N_CATEGORIES), dtype=np.uint32)
    for row, column in ((TILE_ROWS, 0), (0, tiles.MAX_BINS + 1)):
        with pytest.raises(ValueError, match="outside"):
            decode_cells(encode_cells(Cells(np.array([row]), np.array([column]), counts)))


def test_no_tile_is_larger_than_the_budget():
    # Nothing compresses worse than noise: every model differs in everything.
    rng = np.random.default_rng(7)
    forest = make_forest(40_000, 7)
    forest = Forest(forest.created, forest.parent, rng.integers(1, 2**32, 40_000).astype(np.uint32),
                    forest.codes)  # fmt: skip
    bins = time_bins(forest.created)
    assert max(len(encode_leaf(leaf)) for leaf in leaves(forest, bins)) < 200_000
    assert max(len(encode_cells(cells)) for _, _, cells in pyramid(forest, bins)) < 200_000
