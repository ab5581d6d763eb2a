"""Memorization (Corollary 3.2): each sample is its own cluster, and the weights store it."""

from proofs_checks.memorize import closed_form, experiment, extraction, noisy, trained, unseen
from proofs_checks.regimes import Regime

CLAIMS = (
    *closed_form.CLAIMS,
    *trained.CLAIMS,
    *noisy.CLAIMS,
    *unseen.CLAIMS,
    *extraction.CLAIMS,
)
REGIME = Regime(
    name="memorize",
    build=experiment.build,
    from_weights=experiment.from_weights,
    claims=CLAIMS,
)
