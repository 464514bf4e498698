"""Naming schemes of tensors, declared as tables: one module per kind of model."""

from __future__ import annotations

from lineage.weights.names.blocks import BLOCKS
from lineage.weights.names.diffusion import DIFFUSION
from lineage.weights.names.gguf import GGUF
from lineage.weights.names.outside import OUTSIDE
from lineage.weights.names.scheme import Scheme
from lineage.weights.names.special import SPECIAL

__all__ = ["SCHEMES"]

SCHEMES: tuple[Scheme, ...] = (*BLOCKS, *OUTSIDE, *GGUF, *DIFFUSION, *SPECIAL)
"""All families. Those with model types hold for these only, and before all others."""
