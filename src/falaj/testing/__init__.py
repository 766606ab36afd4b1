"""Contract suites: what every adapter of a port has to keep, for falaj's own adapters and for those of others."""
