"""From one noise level to diffusion models: what samplers make of memorizing and generalizing
nets."""

from proofs_checks.diffusion import (
    deep_copies,
    deep_denoisers,
    deep_jacobian,
    deep_ladder,
    deep_layers,
    exact,
    experiment,
    relu_errors,
    relu_generalizing,
    relu_memorizing,
    relu_pair,
)
from proofs_checks.regimes import Regime

CLAIMS = (
    *exact.CLAIMS,
    *relu_memorizing.CLAIMS,
    *relu_pair.CLAIMS,
    *relu_generalizing.CLAIMS,
    *relu_errors.CLAIMS,
    *deep_copies.CLAIMS,
    *deep_denoisers.CLAIMS,
    *deep_jacobian.CLAIMS,
    *deep_layers.CLAIMS,
    *deep_ladder.CLAIMS,
)
REGIME = Regime(
    name="diffusion",
    build=experiment.build,
    from_weights=experiment.from_weights,
    claims=CLAIMS,
    of_user_data=False,  # mostly about the shipped models
    of_user_weights=False,
)
