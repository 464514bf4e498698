"""What the explorer costs with a register of three million models: ``make bench-explorer``."""
