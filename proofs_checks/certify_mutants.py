"""Mutants of the certificates: other formulas, and nets that are not what they seem."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dae_theory.theory.closed_forms import Prediction, predict_blocks
from dae_theory.theory.spectrum import Spectrum, predict_curvature
from proofs_checks.claims import Mutant


def double_sigma(x_ND, labels_N, widths, sigma, lam) -> Prediction:
    """(2)-(4) with σ twice as large."""
    return predict_blocks(x_ND, labels_N, widths, 2 * sigma, lam)


def half_lambda(x_ND, labels_N, widths, sigma, lam) -> Prediction:
    """(2)-(4) with λ/2 for λ."""
    return predict_blocks(x_ND, labels_N, widths, sigma, lam / 2)


def one_unit_more(x_ND, labels_N, widths, sigma, lam) -> Prediction:
    """(2)-(4) with a wrong p_k: one unit more in every block."""
    return predict_blocks(x_ND, labels_N, [p + 1 for p in widths], sigma, lam)


def last_direction_exchanged(x_ND, labels_N, widths, sigma, lam) -> Prediction:
    """(4) with the last kept eigenpair of block 0 exchanged for the next one: a saddle."""
    wider = predict_blocks(x_ND, labels_N, [p + 1 for p in widths], sigma, lam)
    p = predict_blocks(x_ND, labels_N, widths, sigma, lam)
    rank = p.directions[0].shape[1]
    if wider.directions[0].shape[1] == rank or rank < 2:
        return p
    old, new = p.directions[0][:, -1], wider.directions[0][:, -1]
    old_gain, new_gain = p.gains[0][-1], wider.gains[0][-1]
    scale = np.sqrt(new_gain / old_gain) if old_gain > 0 else 0.0
    change = np.eye(len(old)) + np.outer(scale * new - old, old)
    block_P = p.blocks == 0
    w1 = np.where(block_P, change @ p.w1, p.w1)
    return replace(p, w1=w1, w2=w1.copy())


def half_curvature(prediction: Prediction, x_ND) -> Spectrum:
    """The eigenvalues with λ/2 for λ."""
    return predict_curvature(replace(prediction, lam=prediction.lam / 2), x_ND)


def _formula(what: str, predict: Callable[..., Prediction]) -> Mutant:
    """Another formula instead of (2)-(4)."""
    return Mutant(what, lambda certified: replace(certified, predict=predict))


DOUBLE_SIGMA = _formula("2σ for σ", double_sigma)
HALF_LAMBDA = _formula("λ/2 for λ", half_lambda)
ONE_MORE = _formula("p_k + 1 for p_k", one_unit_more)
SADDLE = _formula("last eigenpair exchanged for the next: a saddle", last_direction_exchanged)
SHRUNK = Mutant("first unit shrunk to 1e-6: a saddle", lambda c: replace(c, shrunk=True))
UNPROJECTED = Mutant(
    "rotations counted as curvature", lambda c: replace(c, projects_symmetry=False)
)
CURVATURE_OF_HALF = Mutant("λ/2 in the eigenvalues", lambda c: replace(c, curvature=half_curvature))
FULL_ORTHOGONAL = Mutant(
    "p_k(p_k+1)/2 flat directions",
    lambda c: replace(c, flat_directions=lambda p, r: sum(w * (w + 1) // 2 for w in p)),
)
NO_SYMMETRY = Mutant("no flat directions", lambda c: replace(c, flat_directions=lambda p, r: 0))
