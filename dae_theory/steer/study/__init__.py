"""Memorized against generalized samples, steered equally, in models whose copies are known."""
