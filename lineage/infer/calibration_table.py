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
    digest="866555a11fb931ab771ccd8d53ca0ae22b26193ce1c60aa515292d4bd6fe1422",
    learned_on=date(2026, 11, 22),
    software="0.1.0",
    n_families=15,
    n_findings=281,
    parents={
        "copy": Curve(
            n=31,
            right=30,
            intercept=3.4426,
        ),
        "quantised": Curve(
            n=28,
            right=28,
            intercept=4.1271,
        ),
        "layers, word for word": Curve(
            n=11,
            right=10,
            intercept=3.0457,
        ),
        "layers, by likeness": Curve(
            n=1,
            right=0,
            intercept=0.9625,
        ),
        "merge, replayed": Curve(
            n=13,
            right=13,
            intercept=3.8341,
        ),
        "merge, fitted": Curve(
            n=19,
            right=10,
            intercept=0.6825,
            slopes=(Slope("adds_up", 0.1455, 0.7625),),
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=1.0786,
        ),
        "tie": Curve(
            n=55,
            right=44,
            intercept=1.2684,
            slopes=(Slope("small_change", 0.4764, 0.3726),),
        ),
        "from the founder": Curve(
            n=36,
            right=29,
            intercept=1.2738,
            slopes=(
                Slope("carries_no_other", 1.16, 0.5953),
                Slope("small_change", 0.271, 0.465),
            ),
        ),
        "from a descendant": Curve(
            n=86,
            right=69,
            intercept=1.3323,
            slopes=(
                Slope("carries_the_whole", 1.5416, 0.8168),
                Slope("small_change", 0.7596, 0.5094),
            ),
        ),
        "descent": Curve(
            n=1,
            right=0,
            intercept=0.9625,
        ),
    },
    direction={
        "from the founder": Curve(
            n=34,
            right=32,
            intercept=2.8228,
            slopes=(Slope("points_forward", 1.2558, 1.0565),),
        ),
        "from a descendant": Curve(
            n=70,
            right=66,
            intercept=2.7968,
            slopes=(Slope("points_forward", 0.4775, 2.1221),),
        ),
    },
)
