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
    n_findings=283,
    parents={
        "copy": Curve(
            n=31,
            right=30,
            intercept=3.6703,
        ),
        "quantised": Curve(
            n=28,
            right=28,
            intercept=4.6563,
        ),
        "layers, word for word": Curve(
            n=11,
            right=11,
            intercept=4.3194,
        ),
        "layers, by likeness": Curve(
            n=0,
            right=0,
            intercept=1.8362,
        ),
        "merge, replayed": Curve(
            n=14,
            right=14,
            intercept=4.3877,
        ),
        "merge, fitted": Curve(
            n=19,
            right=17,
            intercept=1.9414,
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=1.8362,
        ),
        "tie": Curve(
            n=55,
            right=46,
            intercept=1.7127,
            slopes=(Slope("small_change", 1.0917, 0.3761),),
        ),
        "from the founder": Curve(
            n=42,
            right=36,
            intercept=1.8436,
            slopes=(
                Slope("carries_no_other", 1.0986, 0.6536),
                Slope("small_change", 1.0851, 0.4832),
            ),
        ),
        "from a descendant": Curve(
            n=82,
            right=74,
            intercept=2.2218,
            slopes=(
                Slope("carries_the_whole", 2.7536, 0.8448),
                Slope("small_change", 1.6295, 0.509),
            ),
        ),
        "descent": Curve(
            n=1,
            right=1,
            intercept=1.8718,
        ),
    },
    direction={
        "from the founder": Curve(
            n=42,
            right=40,
            intercept=3.5308,
            slopes=(Slope("points_forward", 2.4029, 1.0727),),
        ),
        "from a descendant": Curve(
            n=75,
            right=74,
            intercept=4.3473,
            slopes=(Slope("points_forward", 1.6328, 2.0832),),
        ),
    },
)
