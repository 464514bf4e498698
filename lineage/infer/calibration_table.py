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
            intercept=7.4268,
        ),
        "quantised": Curve(
            n=75,
            right=75,
            intercept=7.3634,
        ),
        "layers, word for word": Curve(
            n=31,
            right=31,
            intercept=6.8333,
        ),
        "layers, by likeness": Curve(
            n=6,
            right=6,
            intercept=2.4649,
        ),
        "merge, replayed": Curve(
            n=47,
            right=47,
            intercept=7.0598,
        ),
        "merge, fitted": Curve(
            n=42,
            right=38,
            intercept=2.2623,
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=2.277,
        ),
        "tie": Curve(
            n=98,
            right=87,
            intercept=2.1163,
        ),
        "from the founder": Curve(
            n=134,
            right=125,
            intercept=2.5541,
        ),
        "from a descendant": Curve(
            n=246,
            right=221,
            intercept=2.391,
            slopes=(
                Slope("carries_the_whole", 3.2255, 0.8493),
                Slope("small_change", 1.4901, 0.5119),
            ),
        ),
        "descent": Curve(
            n=5,
            right=5,
            intercept=2.436,
        ),
    },
    direction={
        "from the founder": Curve(
            n=134,
            right=130,
            intercept=4.8485,
            slopes=(Slope("points_forward", 3.1889, 1.4541),),
        ),
        "from a descendant": Curve(
            n=221,
            right=221,
            intercept=6.4369,
        ),
    },
)
