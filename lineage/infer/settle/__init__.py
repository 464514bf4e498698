"""The questions asked of one family of models, each settling what it can."""
