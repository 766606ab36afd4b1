"""Projects as a user writes them."""
