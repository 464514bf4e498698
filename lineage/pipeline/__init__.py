"""The stages, each re-runnable alone; only this package and the command know everybody."""
