"""Scoring: whole files and periods of a dataset, scored by a registered model, with the recipe that it was trained with."""
