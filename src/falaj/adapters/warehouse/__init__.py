"""Warehouses that Ibis speaks to."""
