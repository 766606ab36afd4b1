"""The HTTP API: the same operations as the command line, under one key check, one error shape and one limit on size."""
