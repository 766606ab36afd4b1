"""Gates: what a candidate must show before it may be registered."""
