"""What the ledgers that live in a database share: transactions that are committed together."""
