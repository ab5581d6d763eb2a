"""Memorization (Corollary 3.2): each sample is its own cluster, and the weights store it."""

from proofs_checks.memorize import closed_form, extraction, trained, unseen

CLAIMS = (*closed_form.CLAIMS, *trained.CLAIMS, *unseen.CLAIMS, *extraction.CLAIMS)
