"""What the witnesses of a finding are worth.

Written by ``python -m benchmarks.zoo calibrate``.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from lineage.infer.curves import Calibration, Curve, Slope

__all__ = ["LEARNED"]

LEARNED: Final = Calibration(
    source="proving ground, split train: 945 models of 45 families",
    digest="a3870c171e89b67bffcce20c4821a511617a518c68a4fe100bb2869e4ce70925",
    learned_on=date(2026, 11, 23),
    software="0.1.0",
    n_families=45,
    n_findings=859,
    parents={
        "copy": Curve(
            n=90,
            right=90,
            intercept=7.6257,
        ),
        "quantised": Curve(
            n=84,
            right=84,
            intercept=7.5752,
        ),
        "layers, word for word": Curve(
            n=36,
            right=36,
            intercept=7.0408,
        ),
        "layers, by likeness": Curve(
            n=7,
            right=7,
            intercept=3.0867,
        ),
        "merge, replayed": Curve(
            n=58,
            right=58,
            intercept=7.3213,
        ),
        "merge, fitted": Curve(
            n=55,
            right=50,
            intercept=2.4832,
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=2.8788,
        ),
        "tie": Curve(
            n=93,
            right=90,
            intercept=3.2418,
        ),
        "from the founder": Curve(
            n=143,
            right=140,
            intercept=3.5926,
            slopes=(Slope("carries_no_other", 0.3389, 0.704),),
        ),
        "from a descendant": Curve(
            n=287,
            right=267,
            intercept=3.3896,
            slopes=(
                Slope("carries_the_whole", 1.9885, 0.8761),
                Slope("small_change", 1.8238, 0.5153),
                Slope("has_no_equal", 6.1528, 0.9286),
            ),
        ),
        "descent": Curve(
            n=6,
            right=6,
            intercept=3.0595,
        ),
    },
    direction={
        "from the founder": Curve(
            n=156,
            right=153,
            intercept=5.1165,
            slopes=(Slope("points_forward", 2.4842, 1.5106),),
        ),
        "from a descendant": Curve(
            n=267,
            right=267,
            intercept=7.0308,
        ),
    },
)
