"""Which code makes findings: a digest that two runs share only if the same code ran."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import lineage.infer
import lineage.weights

__all__ = ["inference_code"]


@cache
def inference_code() -> str:
    """Digest of all source files whose change may change a finding, 64 hex digits."""
    digest = hashlib.sha256()
    for package in (lineage.infer, lineage.weights):
        for file in sorted(Path(package.__path__[0]).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()
