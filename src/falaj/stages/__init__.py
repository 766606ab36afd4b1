"""The work: one folder a stage, each with what is declared, how it is decided, and what does it."""
