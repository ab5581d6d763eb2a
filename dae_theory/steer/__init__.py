"""Steering: samples moved along directions of a model's activations, and what it does to them."""
