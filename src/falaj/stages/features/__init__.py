"""Features: one definition of each, used for training and for serving."""
