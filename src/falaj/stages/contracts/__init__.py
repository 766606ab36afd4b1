"""Contracts: data comes in through a contract, and what breaks it goes to quarantine."""
