"""Streams as sources of tables."""
