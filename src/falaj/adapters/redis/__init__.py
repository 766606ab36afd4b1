"""Redis: features that many machines read."""
