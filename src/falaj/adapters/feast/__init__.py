"""Feast: its repositories, read without running them."""
