"""A fuzz run over every parser that reads what strangers wrote; see ``docs/fuzzing.md``."""
