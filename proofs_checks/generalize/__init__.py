"""Generalization (Theorem 3.1, Corollary 3.3): the weights hold the local data statistics."""

from proofs_checks.generalize import (
    closed_form,
    experiment,
    population,
    representation,
    trained,
    unseen,
)
from proofs_checks.regimes import Regime

CLAIMS = (
    *closed_form.CLAIMS,
    *trained.CLAIMS,
    *population.CLAIMS,
    *representation.CLAIMS,
    *unseen.CLAIMS,
)
REGIME = Regime(
    name="generalize",
    build=experiment.build,
    from_weights=experiment.from_weights,
    claims=CLAIMS,
)
