"""Pipelines: runs of steps, wherever they are executed, and what became of them."""
