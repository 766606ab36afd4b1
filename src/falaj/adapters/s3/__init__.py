"""Stores that speak Amazon S3's protocol."""
