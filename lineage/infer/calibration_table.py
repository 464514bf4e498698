"""What the witnesses of a finding are worth.

Written by ``python -m benchmarks.zoo calibrate``.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from lineage.infer.curves import Calibration, Curve, Slope

__all__ = ["LEARNED"]

LEARNED: Final = Calibration(
    source="proving ground, split train: 102 models of 4 families",
    digest="a2197fe33adaf690dcc18cab35ae3a0b5a55ebbd03251777071d18e897185e9b",
    learned_on=date(2026, 11, 21),
    software="0.1.0",
    n_families=4,
    n_findings=90,
    parents={
        "copy": Curve(
            n=6,
            right=6,
            intercept=3.0301,
        ),
        "quantised": Curve(
            n=13,
            right=13,
            intercept=3.4516,
        ),
        "layers, word for word": Curve(
            n=4,
            right=3,
            intercept=1.8396,
        ),
        "layers, by likeness": Curve(
            n=1,
            right=0,
            intercept=0.1863,
        ),
        "merge, replayed": Curve(
            n=7,
            right=6,
            intercept=2.094,
        ),
        "merge, fitted": Curve(
            n=2,
            right=1,
            intercept=0.3714,
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=0.4673,
        ),
        "tie": Curve(
            n=14,
            right=5,
            intercept=-0.1974,
        ),
        "from the founder": Curve(
            n=13,
            right=8,
            intercept=0.5226,
            slopes=(
                Slope("carries_no_other", 3.454, 0.6695),
                Slope("small_change", 0.9782, 0.4609),
            ),
        ),
        "from a descendant": Curve(
            n=28,
            right=23,
            intercept=1.2593,
            slopes=(
                Slope("carries_the_whole", 1.3267, 0.8179),
                Slope("small_change", 0.225, 0.5203),
            ),
        ),
        "descent": Curve(
            n=2,
            right=2,
            intercept=0.8086,
        ),
    },
    direction={
        "from the founder": Curve(
            n=10,
            right=9,
            intercept=2.3401,
            slopes=(Slope("points_forward", 0.2975, 1.1044),),
        ),
        "from a descendant": Curve(
            n=23,
            right=22,
            intercept=2.9188,
        ),
    },
)
