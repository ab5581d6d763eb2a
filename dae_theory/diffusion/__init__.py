"""Denoisers for all noise levels, and sampling with them."""
