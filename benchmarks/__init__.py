"""Figures about falaj, measured on the machine that runs them: `make bench`."""
