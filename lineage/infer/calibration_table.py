"""What the witnesses of a finding are worth.

Written by ``python -m benchmarks.zoo calibrate``.
"""

from __future__ import annotations

from datetime import date
from typing import Final

from lineage.infer.curves import Calibration, Curve

__all__ = ["LEARNED"]

LEARNED: Final = Calibration(
    source="proving ground, split train: 945 models of 45 families",
    digest="1eb40742571f97b9a593a443f5e0873224de1518c36c3848c647ada2b9e83f7a",
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
            intercept=3.8869,
        ),
        "merge, replayed": Curve(
            n=58,
            right=58,
            intercept=7.3213,
        ),
        "merge, fitted": Curve(
            n=55,
            right=50,
            intercept=2.6421,
        ),
        "adapter": Curve(
            n=0,
            right=0,
            intercept=3.6846,
        ),
        "tie": Curve(
            n=93,
            right=90,
            intercept=3.4669,
        ),
        "from the founder": Curve(
            n=143,
            right=140,
            intercept=3.8122,
        ),
        "from a descendant": Curve(
            n=287,
            right=284,
            intercept=4.4225,
        ),
        "descent": Curve(
            n=6,
            right=6,
            intercept=3.8604,
        ),
    },
    direction={
        "from the founder": Curve(
            n=156,
            right=153,
            intercept=4.0391,
        ),
        "from a descendant": Curve(
            n=284,
            right=284,
            intercept=7.1255,
        ),
    },
)
