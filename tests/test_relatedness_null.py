"""The figures that show whether a null holds."""

from __future__ import annotations

import numpy as np
from scipy import stats

from benchmarks.zoo.measuring import _interval, _quantiles
from benchmarks.zoo.telling import _null_row


def test_quantiles_of_uniform_p_values_lie_on_the_diagonal():
    p_values = (np.arange(10_000) + 1) / 10_000
    qq = _quantiles(p_values)
    # Ten thousand values tell quantiles to one in ten thousand.
    assert np.allclose(qq["observed"], qq["expected"], rtol=0, atol=1e-4)
    assert qq["expected"][-1] == 1
    assert abs(qq["expected"][0] * 10_000 - 1) < 1e-9


def test_a_rate_has_the_exact_binomial_interval_and_one_over_families():
    told = _interval([[0.001, 0.5, 0.6], [0.2, 0.3]], 0.01)
    assert told["hits"] == 1
    assert told["rate"] == 0.2
    low, high = stats.beta.ppf(0.025, 1, 5), stats.beta.ppf(0.975, 2, 4)
    assert np.allclose(told["binomial"], [low, high])
    assert told["by_families"][0] == 0


def test_no_hit_among_few_families_still_has_an_upper_end():
    told = _interval([[0.5]] * 6, 0.01)
    assert told["by_families"] == [0.0, 0.5]
    assert told["binomial"][0] == 0


def test_the_null_is_told_with_both_intervals():
    null = {"n": 1234, "n_family_pairs": 3, "rates": {"0.01": _interval([[0.5, 0.001]] * 3, 0.01)}}
    row = _null_row("llama", null)
    assert row.startswith("| llama | 1,234 (3) | 0.5 (")
    assert row.endswith("; 0.5–0.5) |")
