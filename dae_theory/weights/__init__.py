"""Trained weights: read, compared with predictions, stored samples taken out of them."""
