"""Paper figures of a run of `proofs_checks`: one module per figure, drawn by `figures.make`."""
