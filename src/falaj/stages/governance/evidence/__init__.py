"""Evidence: what one model version was made of, who let it pass and what became of it, in an archive that proves itself."""
