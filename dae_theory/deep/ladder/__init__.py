"""A ladder from the theory's two-layer net to deep nets, one change at a time."""
