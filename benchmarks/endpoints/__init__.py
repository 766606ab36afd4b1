"""What the benchmarks of an endpoint share: the model and its requests, the servers under test, and the load upon them."""
