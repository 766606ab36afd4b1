"""Serving: takes what the inference servers sealed into the ledger."""
