"""Which O do the minimizers of (4) have? Descent over rotations inside blocks (THEORY.md §8).

Rotations of a block leave (3) unchanged; only gates that noise flips tell them apart.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Float

from dae_theory.relu.loss import exact_loss
from dae_theory.theory.separability import gate_margin
from proofs_checks.blocks import Blocks, at_margin, predict_on

ROTATION_SCALE = 0.2  # of random angles
ROTATION_MARGIN = 4.0  # where the loss tells rotations apart well above rounding


class Rotated(NamedTuple):
    """For each mixture, at the even O and where the rotations end: gate margin, and loss minus
    (3) relative to the even O's. ``start`` is the margin at the random O that a descent is from."""

    even: Float[np.ndarray, " S"]
    start: Float[np.ndarray, " S"]
    end: Float[np.ndarray, " S"]
    excess: Float[np.ndarray, " S"]


@dataclass(frozen=True)
class Rotations:
    """Mixtures with blocks of equal width p_k, at a margin where the loss tells rotations apart,
    and whether rotations descend the loss or stay at the random O where they start."""

    blocks: tuple[Blocks, ...]
    seeds: tuple[int, ...]
    descends: bool = True

    @cached_property
    def rotated(self) -> Rotated:
        """Descent of the exact loss over in-block rotations from one random O a mixture."""
        pairs = zip(self.blocks, self.seeds, strict=True)
        rows = [_rotate(at_margin(b, ROTATION_MARGIN), seed, self.descends) for b, seed in pairs]
        return Rotated(*np.array(rows).T)


@partial(jax.jit, static_argnames="width")
def _rotated_columns(angles_KA, w_DP, width: int):
    """Each block of ``width`` columns, rotated by exp of an antisymmetric matrix of angles."""

    def rotation(angle_A):
        upper = jnp.zeros((width, width)).at[np.triu_indices(width, 1)].set(angle_A)
        return jax.scipy.linalg.expm(upper - upper.T)

    w_DKP = w_DP.reshape(len(w_DP), len(angles_KA), width)
    return jnp.einsum("dkp,kpq->dkq", w_DKP, jax.vmap(rotation)(angles_KA)).reshape(w_DP.shape)


@partial(jax.jit, static_argnames="width")
@partial(jax.value_and_grad)
def _rotated_loss(angles_KA, w_DP, width, x_ND, sigma, lam):
    w_DP = _rotated_columns(angles_KA, w_DP, width)
    return exact_loss(w_DP, w_DP, x_ND, sigma, lam)


def _rotate(b: Blocks, seed: int, descends: bool) -> tuple[float, float, float, float]:
    """One row of Rotated."""
    p, width = predict_on(b), b.widths[0]
    shape = (len(b.widths), width * (width - 1) // 2)

    def scaled(angles):
        loss, slope = _rotated_loss(angles.reshape(shape), p.w1, width, b.x, b.sigma, b.lam)
        return (float(loss) - p.loss) / unit, np.asarray(slope, float).ravel() / unit

    def margin(angles):
        w1_DP = np.asarray(_rotated_columns(angles.reshape(shape), p.w1, width))
        return gate_margin(w1_DP, b.x, b.labels, p.blocks, b.sigma)

    with jax.enable_x64(True):
        unit = 1.0
        unit, _ = scaled(np.zeros(np.prod(shape)))
        start = ROTATION_SCALE * np.random.default_rng(seed).standard_normal(np.prod(shape))
        end = start
        if descends:
            end = scipy.optimize.minimize(scaled, start, jac=True, method="L-BFGS-B").x
        return margin(np.zeros_like(start)), margin(start), margin(end), scaled(end)[0]


def measure_rotations(r: Rotations) -> dict:
    """Shortfall of the margin where the rotations end from that of the even O, for each mixture."""
    rotated = r.rotated
    return {
        "measured": float(np.mean(rotated.end)),
        "predicted": float(np.mean(rotated.even)),
        "errors": np.maximum(rotated.even - rotated.end, 0.0),
        "seeds": r.seeds,
        "note": f"z of random O {rotated.start.min():.2f} … {rotated.start.max():.2f}, at the end "
        f"{rotated.end.min():.2f} … {rotated.end.max():.2f}; loss above (3), by the even O's: "
        f"{rotated.excess.min():.2f} … {rotated.excess.max():.2f}",
    }
