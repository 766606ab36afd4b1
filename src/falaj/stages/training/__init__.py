"""Training: from snapshots and features to a candidate model in a safe format, with its measured promise."""
