"""What the project needs around its code: setting up, and pages made from the code."""
