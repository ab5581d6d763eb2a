"""Steering: where a sample goes when a concept's representation is added on its way."""

from proofs_checks.steer import across, within

CLAIMS = (*within.CLAIMS, *across.CLAIMS)
