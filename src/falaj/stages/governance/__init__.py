"""Governance: who may call, and what can be proven of what happened."""
