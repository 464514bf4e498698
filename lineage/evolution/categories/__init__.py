"""Categorical traits and texts: mutation, information, drift, selection between labels."""
