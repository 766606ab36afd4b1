"""Witness: a small service that remembers how far it has seen ledgers grow, and cosigns nothing that takes a step back.

It belongs on a machine of somebody else than who runs the ledger. It needs the standard library, `cryptography`, and of falaj
only its words; it keeps a folder: its key, the ledgers' keys that it trusts, and the newest checkpoint of each.
"""
