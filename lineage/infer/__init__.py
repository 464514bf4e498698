"""From fingerprints to findings. Pure: arrays and values in, findings out."""
