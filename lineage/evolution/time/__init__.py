"""Births, lives and lineages through time."""
