"""Generalization (Theorem 3.1, Corollary 3.3): the weights hold the local data statistics."""

from proofs_checks.generalize import closed_form, population, representation, trained, unseen

CLAIMS = (
    *closed_form.CLAIMS,
    *trained.CLAIMS,
    *population.CLAIMS,
    *representation.CLAIMS,
    *unseen.CLAIMS,
)
