"""What the witnesses of a finding are worth.

Written by ``python -m benchmarks.zoo calibrate``.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from lineage.infer.curves import Calibration, Curve, Slope

__all__ = ["LEARNED"]

LEARNED: Final = Calibration(
    source="proving ground, split train: 1575 models of 75 families",
    digest="210e3d48033872aeb74f64995466d894f6a22e30ec2cf89dcf2ccdd0e37f1fc8",
    learned_on=date(2026, 11, 23),
    software="0.1.0",
    n_families=75,
    n_findings=1432,
    parents={
        "copy": Curve(
            n=153,
            right=152,
            intercept=4.9909,
        ),
        "quantised": Curve(
            n=140,
            right=140,
            intercept=6.5346,
        ),
        "layers, word for word": Curve(
            n=59,
            right=58,
            intercept=4.2743,
        ),
        "layers, by likeness": Curve(
            n=11,
            right=11,
            intercept=3.6207,
        ),
        "merge, replayed": Curve(
            n=96,
            right=95,
            intercept=4.6201,
            slopes=(Slope("words_replayed", 0.5633, 0.9744),),
        ),
        "merge, fitted": Curve(
            n=91,
            right=84,
            intercept=2.6495,
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=3.316,
        ),
        "tie": Curve(
            n=151,
            right=145,
            intercept=3.2091,
            slopes=(Slope("small_change", 0.3764, 0.3225),),
        ),
        "from the founder": Curve(
            n=241,
            right=229,
            intercept=3.171,
            slopes=(
                Slope("carries_no_other", 2.295, 0.7051),
                Slope("small_change", 0.0518, 0.4831),
            ),
        ),
        "from a descendant": Curve(
            n=480,
            right=471,
            intercept=4.0296,
            slopes=(Slope("carries_the_whole", 2.5411, 0.8725),),
        ),
        "descent": Curve(
            n=10,
            right=10,
            intercept=3.5966,
        ),
    },
    direction={
        "from the founder": Curve(
            n=253,
            right=249,
            intercept=5.7919,
            slopes=(Slope("points_forward", 3.1213, 1.4881),),
        ),
        "from a descendant": Curve(
            n=471,
            right=471,
            intercept=7.8366,
        ),
    },
)
