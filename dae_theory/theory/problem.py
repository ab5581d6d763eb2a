"""The learning problem: what objective (1) depends on besides the weights."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dae_theory.theory.separability import Separability, separability


@dataclass(frozen=True)
class Problem:
    """Training samples, noise level and weight decay of objective (1) (docs/THEORY.md#eq-1).

    Attributes:
      x: (N, D) training samples, one a row.
      sigma: noise level σ, in data units.
      lam: weight decay λ, without ½.
      labels: (N,) clusters 0 … K−1 where the theory is about clusters, else None.
      widths: (K,) units p_k of each cluster where they are fixed, else None.
    """

    x: Float[np.ndarray, "N D"]
    sigma: float
    lam: float
    labels: Int[np.ndarray, " N"] | None = None
    widths: tuple[int, ...] | None = None

    @cached_property
    def separability(self) -> Separability:
        """(α, β) of the clusters, or of the samples where there are none."""
        labels_N = np.arange(len(self.x)) if self.labels is None else self.labels
        return separability(self.x, labels_N)
