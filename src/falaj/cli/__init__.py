"""The command line: words in, one call on the app, words or JSON out."""
