"""What people look at: the report in a browser, the summary and the trace on a terminal."""
