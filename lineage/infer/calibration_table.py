"""What the witnesses of a finding are worth.

Written by ``python -m benchmarks.zoo calibrate``.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from lineage.infer.curves import Calibration, Curve, Slope

__all__ = ["LEARNED"]

LEARNED: Final = Calibration(
    source="proving ground, split train: 315 models of 15 families",
    digest="1df8511ef89ed875bca90a8fe6e6883bed4cf647685401c2d03c2c1b225686c8",
    learned_on=date(2026, 11, 22),
    software="0.1.0",
    n_families=15,
    n_findings=287,
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
            intercept=1.9175,
        ),
        "merge, replayed": Curve(
            n=18,
            right=18,
            intercept=5.6357,
        ),
        "merge, fitted": Curve(
            n=16,
            right=13,
            intercept=1.751,
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=1.9175,
        ),
        "tie": Curve(
            n=60,
            right=50,
            intercept=1.7101,
            slopes=(Slope("small_change", 0.3232, 0.3895),),
        ),
        "from the founder": Curve(
            n=39,
            right=35,
            intercept=2.0525,
            slopes=(Slope("carries_no_other", 0.4688, 0.7031),),
        ),
        "from a descendant": Curve(
            n=82,
            right=74,
            intercept=2.2896,
            slopes=(
                Slope("carries_the_whole", 3.699, 0.8669),
                Slope("small_change", 0.6642, 0.5193),
            ),
        ),
        "descent": Curve(
            n=1,
            right=1,
            intercept=1.9527,
        ),
    },
    direction={
        "from the founder": Curve(
            n=40,
            right=37,
            intercept=3.3881,
            slopes=(Slope("points_forward", 2.6344, 1.2282),),
        ),
        "from a descendant": Curve(
            n=74,
            right=74,
            intercept=4.6806,
        ),
    },
)
