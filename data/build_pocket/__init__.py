"""Builds the pocket Hub: small real models with a known ancestry, from seeds and real text."""
