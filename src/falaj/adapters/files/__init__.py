"""Files in the project's folder."""
