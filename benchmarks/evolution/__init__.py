"""Benchmarks of the population statistics."""
