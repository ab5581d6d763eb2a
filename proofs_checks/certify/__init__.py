"""Certificates: are the closed forms minima, what else is there, and how far do they reach?"""

from proofs_checks.certify import (
    census,
    closed_forms,
    dead_units,
    pair,
    reach,
    rotations,
    weights,
)

CLAIMS = (
    *closed_forms.CLAIMS,
    *rotations.CLAIMS,
    *pair.CLAIMS,
    *dead_units.CLAIMS,
    *census.CLAIMS,
    *reach.CLAIMS,
)
DATA_CLAIMS = closed_forms.DATA_CLAIMS
WEIGHTS_CLAIMS = weights.CLAIMS
