"""Errata: statements as printed, expected to fail, beside the corrected ones, which hold."""

from proofs_checks.errata import (
    experiment,
    population_limit,
    sampled_density,
    score,
    stored_samples,
)
from proofs_checks.regimes import Regime

CLAIMS = (*population_limit.CLAIMS, *stored_samples.CLAIMS, *sampled_density.CLAIMS, *score.CLAIMS)
REGIME = Regime(
    name="errata",
    build=experiment.build,
    from_weights=experiment.from_weights,
    claims=CLAIMS,
    of_user_weights=False,
)
