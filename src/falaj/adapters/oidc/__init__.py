"""The company's OpenID provider: its people log in there, and their access tokens open the control plane."""
