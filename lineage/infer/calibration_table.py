"""What the witnesses of a finding are worth.

Written by ``python -m benchmarks.zoo calibrate``.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from lineage.infer.curves import Calibration, Curve, Slope

__all__ = ["LEARNED"]

LEARNED: Final = Calibration(
    source="proving ground, split train and validate: 837 models of 40 families",
    digest="18c0fd30daec3bff50570dcc9ec78320240c681cf803a97b6060967209ffd4bb",
    learned_on=date(2026, 11, 23),
    software="0.1.0",
    n_families=40,
    n_findings=766,
    parents={
        "copy": Curve(
            n=82,
            right=82,
            intercept=9.8946,
        ),
        "quantised": Curve(
            n=75,
            right=75,
            intercept=9.8076,
        ),
        "layers, word for word": Curve(
            n=31,
            right=31,
            intercept=8.9602,
        ),
        "layers, by likeness": Curve(
            n=6,
            right=6,
            intercept=3.7374,
        ),
        "merge, replayed": Curve(
            n=47,
            right=47,
            intercept=9.3556,
        ),
        "merge, fitted": Curve(
            n=42,
            right=38,
            intercept=2.2524,
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=2.277,
        ),
        "tie": Curve(
            n=98,
            right=87,
            intercept=2.0719,
        ),
        "from the founder": Curve(
            n=134,
            right=125,
            intercept=2.6423,
            slopes=(Slope("has_no_equal", 1.9232, 0.9813),),
        ),
        "from a descendant": Curve(
            n=246,
            right=221,
            intercept=3.1263,
            slopes=(
                Slope("carries_the_whole", 3.3763, 0.8493),
                Slope("small_change", 3.9778, 0.5119),
                Slope("has_no_equal", 6.6253, 0.9268),
            ),
        ),
        "descent": Curve(
            n=5,
            right=5,
            intercept=3.6005,
        ),
    },
    direction={
        "from the founder": Curve(
            n=134,
            right=130,
            intercept=6.0397,
            slopes=(Slope("points_forward", 4.6056, 1.4541),),
        ),
        "from a descendant": Curve(
            n=221,
            right=221,
            intercept=9.0848,
        ),
    },
)
