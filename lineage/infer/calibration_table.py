"""What the witnesses of a finding are worth.

Written by ``python -m benchmarks.zoo calibrate``.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from lineage.infer.curves import Calibration, Curve

__all__ = ["LEARNED"]

LEARNED: Final = Calibration(
    source="proving ground, split train: 315 models of 15 families",
    digest="1df8511ef89ed875bca90a8fe6e6883bed4cf647685401c2d03c2c1b225686c8",
    learned_on=date(2026, 11, 22),
    software="0.1.0",
    n_families=15,
    n_findings=288,
    parents={
        "copy": Curve(
            n=30,
            right=30,
            intercept=5.8515,
        ),
        "quantised": Curve(
            n=28,
            right=28,
            intercept=5.8186,
        ),
        "layers, word for word": Curve(
            n=13,
            right=13,
            intercept=5.5299,
        ),
        "layers, by likeness": Curve(
            n=0,
            right=0,
            intercept=2.2253,
        ),
        "merge, replayed": Curve(
            n=18,
            right=18,
            intercept=5.6357,
        ),
        "merge, fitted": Curve(
            n=16,
            right=13,
            intercept=1.9232,
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=2.2253,
        ),
        "tie": Curve(
            n=58,
            right=52,
            intercept=2.1825,
        ),
        "from the founder": Curve(
            n=43,
            right=39,
            intercept=2.2548,
        ),
        "from a descendant": Curve(
            n=81,
            right=75,
            intercept=2.4328,
        ),
        "descent": Curve(
            n=1,
            right=1,
            intercept=2.2594,
        ),
    },
    direction={
        "from the founder": Curve(
            n=43,
            right=41,
            intercept=3.2983,
        ),
        "from a descendant": Curve(
            n=75,
            right=75,
            intercept=5.0636,
        ),
    },
)
