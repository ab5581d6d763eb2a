"""Detectors of memorization: what each reads of a net, predicted and measured."""

from proofs_checks.detect import (
    auroc,
    calibration,
    conditions,
    deep_models,
    identities,
    others,
)

CLAIMS = (
    *identities.CLAIMS,
    *auroc.CLAIMS,
    *others.CLAIMS,
    *conditions.CLAIMS,
    *calibration.CLAIMS,
    *deep_models.CLAIMS,
)
