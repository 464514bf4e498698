"""The command ``herdbook``: parse, call one function, print. Data on stdout, talk on stderr."""

from lineage.cli.main import main

__all__ = ["main"]
