"""The words that everything in falaj is said in; standard library only."""
