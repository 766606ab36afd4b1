"""Tables from outside: what the adapters of sources share. It fills no port and knows no outside system."""
