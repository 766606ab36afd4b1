"""Alerts: one for each thing that is wrong, until it is right again or somebody says so."""
