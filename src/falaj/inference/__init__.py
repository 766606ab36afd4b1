"""The inference server: one process an endpoint, which answers, logs what it answered, and talks to nobody."""
