"""How data is sealed under a key of a person: what every vault shares, wherever it keeps its keys."""
