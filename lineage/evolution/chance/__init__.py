"""What chance alone would do: simulated Hubs, copying nulls and sizes of families."""
