"""What falaj plugs into Kafka."""
