"""Hybrid (Corollary 3.4): duplicated samples are memorized, the rest of the data generalized."""

from proofs_checks.hybrid import closed_form, experiment, trained
from proofs_checks.regimes import Regime

CLAIMS = (*closed_form.CLAIMS, *trained.CLAIMS)
REGIME = Regime(
    name="hybrid",
    build=experiment.build,
    from_weights=experiment.from_weights,
    claims=CLAIMS,
)
