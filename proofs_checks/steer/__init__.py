"""Steering: where a sample goes when a concept's representation is added on its way."""

from proofs_checks.steer import across, deep_models, within

CLAIMS = (*within.CLAIMS, *across.CLAIMS, *deep_models.CLAIMS)
