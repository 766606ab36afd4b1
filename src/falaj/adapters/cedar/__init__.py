"""Cedar: who may do what, as policies that are data, checked against a schema and evaluated in this process."""
