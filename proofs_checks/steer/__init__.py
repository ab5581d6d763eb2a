"""Steering: where a sample goes when a concept's representation is added on its way."""

from proofs_checks.regimes import Regime
from proofs_checks.steer import across, deep_models, experiment, within

CLAIMS = (*within.CLAIMS, *across.CLAIMS, *deep_models.CLAIMS)
REGIME = Regime(
    name="steer",
    build=experiment.build,
    from_weights=experiment.from_weights,
    claims=CLAIMS,
    of_user_data=False,  # it samples, with a net for each noise level
    of_user_weights=False,
)
