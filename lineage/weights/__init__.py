"""Stored words of a few tensors: what to read, what the words mean, how they are summarised."""
