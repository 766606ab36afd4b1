"""What is fed with broken input, longer than the suite has time for."""
