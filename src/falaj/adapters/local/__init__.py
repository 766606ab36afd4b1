"""Adapters for what one machine has by itself: files, SQLite, LMDB, processes."""
