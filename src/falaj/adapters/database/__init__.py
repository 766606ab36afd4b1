"""Databases with a SQLAlchemy driver."""
