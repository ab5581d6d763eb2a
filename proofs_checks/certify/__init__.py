"""Certificates: are the closed forms minima, what else is there, and how far do they reach?"""

from proofs_checks.certify import (
    census,
    closed_forms,
    dead_units,
    experiment,
    pair,
    planted,
    reach,
    rotations,
    weights,
)
from proofs_checks.regimes import Regime

CLAIMS = (
    *closed_forms.CLAIMS,
    *rotations.CLAIMS,
    *pair.CLAIMS,
    *planted.CLAIMS,
    *dead_units.CLAIMS,
    *census.CLAIMS,
    *reach.CLAIMS,
)
REGIME = Regime(
    name="certify",
    build=experiment.build,
    from_weights=experiment.from_weights,
    claims=CLAIMS,
    data_claims=closed_forms.DATA_CLAIMS,
    weights_claims=weights.CLAIMS,
)
