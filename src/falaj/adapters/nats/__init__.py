"""What falaj plugs into NATS JetStream."""
