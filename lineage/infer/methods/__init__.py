"""Merge methods, one module an idea: how each is recognised, replayed and written down."""
