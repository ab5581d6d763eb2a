"""Grids of nets over seeds, sample counts, noise levels, weight decays and widths."""
