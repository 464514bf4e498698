"""Sizes that bound memory, shared by samples and streams."""

from __future__ import annotations

__all__ = ["CACHE_VALUES", "MAX_CHUNK", "MAX_NORMS", "WORK_BYTES"]

MAX_NORMS = 1 << 16
"""Rows of a tensor whose norms are kept."""
CACHE_VALUES = 1 << 18
"""Values of a chunk on the CPU, for each thread: a megabyte in float32. Much smaller ones are lost
on calls, much larger ones leave the cache."""
MAX_CHUNK = 1 << 26
"""Values of a chunk at most: sums of a bucket stay below 2²⁴, exact in float32."""
WORK_BYTES = 64
"""Bytes of working memory for one value of a chunk, buffers included."""
