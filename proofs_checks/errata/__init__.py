"""Errata: statements as printed, expected to fail, beside the corrected ones, which hold."""

from proofs_checks.errata import population_limit, sampled_density, score, stored_samples

CLAIMS = (
    *population_limit.CLAIMS,
    *stored_samples.CLAIMS,
    *sampled_density.CLAIMS,
    *score.CLAIMS,
)
