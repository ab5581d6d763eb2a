"""Hybrid (Corollary 3.4): duplicated samples are memorized, the rest of the data generalized."""

from proofs_checks.hybrid import closed_form, trained

CLAIMS = (*closed_form.CLAIMS, *trained.CLAIMS)
