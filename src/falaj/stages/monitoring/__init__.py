"""Monitoring: what a model sees and how well it does, with a stated number of false alarms."""
