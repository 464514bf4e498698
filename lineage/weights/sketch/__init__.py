"""Sketches: short summaries of weights, computed with torch on the CPU or on CUDA.

``sketch_fingerprints`` sketches models whose samples were read; ``stream_sketch`` whole files, at
constant memory; ``nearest_simhash`` and ``cosine_top_k`` search among sketches. What is exact and
what agrees within which tolerance is told in ``docs/sketches.md``.
"""

from lineage.weights.sketch.batch import sketch_fingerprints
from lineage.weights.sketch.device import NoDeviceError, resolve_device
from lineage.weights.sketch.search import Pairs, cosine_top_k, nearest_simhash
from lineage.weights.sketch.sketches import ModelSketch, TensorSketch
from lineage.weights.sketch.stream import StreamSketch, stream_sketch

__all__ = [
    "ModelSketch",
    "NoDeviceError",
    "Pairs",
    "StreamSketch",
    "TensorSketch",
    "cosine_top_k",
    "nearest_simhash",
    "resolve_device",
    "sketch_fingerprints",
    "stream_sketch",
]
