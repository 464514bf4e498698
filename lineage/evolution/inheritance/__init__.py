"""Resemblance of relatives: regressions on parents, relatedness, animal models, liability."""
