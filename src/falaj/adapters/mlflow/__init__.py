"""MLflow: where data scientists look for runs and models; falaj only ever writes to it."""
