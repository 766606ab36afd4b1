"""The report and the trace, as pages and in the terminal."""
