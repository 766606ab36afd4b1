"""Fuzzers that run for as many rounds as they are given: `python -m tests.fuzz.contracts --rounds 20000`."""
