"""Registry: signed versions of models, and the names that point at them."""
