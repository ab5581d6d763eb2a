"""relu."""
