"""Measurements; run with `make bench`. Results belong in docs/performance.md with their date."""
