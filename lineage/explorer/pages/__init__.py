"""The pages of the explorer, one module each, listed in :mod:`lineage.explorer.main`."""
