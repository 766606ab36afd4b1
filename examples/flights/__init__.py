"""A year of flights from New York: will this one arrive more than fifteen minutes late?"""
