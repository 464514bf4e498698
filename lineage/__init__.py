"""herdbook: everything after the network, from fingerprints to the explorer."""

__version__ = "0.1.0"
