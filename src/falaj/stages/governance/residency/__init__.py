"""Where data, and whoever sees it, may be: zones, what lies in which, and what the rules say of it."""
