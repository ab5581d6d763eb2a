"""minima."""
