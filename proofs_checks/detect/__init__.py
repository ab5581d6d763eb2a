"""Detectors of memorization: what each reads of a net, predicted and measured."""

from proofs_checks.detect import (
    auroc,
    calibration,
    conditions,
    deep_models,
    experiment,
    identities,
    others,
)
from proofs_checks.regimes import Regime

CLAIMS = (
    *identities.CLAIMS,
    *auroc.CLAIMS,
    *others.CLAIMS,
    *conditions.CLAIMS,
    *calibration.CLAIMS,
    *deep_models.CLAIMS,
)
REGIME = Regime(
    name="detect",
    build=experiment.build,
    from_weights=experiment.from_weights,
    claims=CLAIMS,
    of_user_data=False,  # nobody knows which samples a user's net stores
    of_user_weights=False,
)
