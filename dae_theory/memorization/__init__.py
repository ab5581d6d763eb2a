"""Copies of training samples: nearest neighbours and gap ratios."""
