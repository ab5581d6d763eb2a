"""Closed forms of the theory, and what they assume of the data."""
