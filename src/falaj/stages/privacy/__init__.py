"""For the people in the data: how long what is kept, what may not be deleted, and what becomes of one person's data."""
