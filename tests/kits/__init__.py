"""What tests build their endpoints from."""
