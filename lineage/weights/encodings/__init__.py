"""From stored words to values."""
