"""Rollouts: a new model gets a growing share of the traffic, and is taken back by evidence or promoted by it."""
