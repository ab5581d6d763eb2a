"""The two settings of the reference experiment, and their data.

docs/THEORY.md#reference-experiment
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError, check_count
from dae_theory.data.named import load
from dae_theory.data.subsets import separable_subset

POOL = 200  # images among which the separable ones are searched
IMAGE_SIZE, PADDING = 32, 2  # of the padded image; Fashion-MNIST is 28×28


@dataclass(frozen=True)
class Recipe:
    """One setting: a tied net of ``width`` units on ``n`` images of ``size``² pixels.

    ``weight_decay`` is that of the PyTorch optimizer, whose loss is a mean over pixels.
    """

    name: str
    n: int
    optimizer: str
    learning_rate: float
    weight_decay: float
    batch_size: int | None
    steps: int = 50_000
    width: int = 100
    size: int = IMAGE_SIZE
    sigma: float = 0.2

    @property
    def n_features(self) -> int:
        """Pixels D."""
        return self.size**2

    @property
    def lam(self) -> float:
        """λ of objective (1) at which it is D times the loss that PyTorch minimizes.

        The optimizer adds w·W to the gradient of a mean over pixels, so it minimizes
        L_data/D + (w/2)‖W‖². The tied matrix stands once there and twice in (1):
        D (w/2)‖W‖² = 2λ‖W‖², λ = w·D/4 (untied matrices, each decayed: w·D/2).
        """
        return self.weight_decay * self.n_features / 4

    @property
    def flops_per_step(self) -> int:
        """Multiply-adds of the five products of a step, twice each: h, x̂, and backwards."""
        return 10 * (self.batch_size or self.n) * self.n_features * self.width

    def samples(self) -> Float[np.ndarray, "N D"]:
        """Fashion-MNIST, zero-padded to 32×32 (block means below that size), in [−1, 1].

        For 'memorization' the mean of the pool is subtracted and the ``n`` most separable images
        are chosen: without, all inner products are positive and (5) does not apply. For
        'generalization' nothing is subtracted.
        """
        count = POOL if self.name == "memorization" else self.n
        images = load("fashion_mnist", count).x.reshape(-1, 28, 28)
        if self.n > len(images):
            raise InputError(f"n: there are {len(images)} images, asked for {self.n}")
        if IMAGE_SIZE % self.size:
            raise InputError(f"image_size: must divide {IMAGE_SIZE}, got {self.size}")
        images = np.pad(images, ((0, 0), (PADDING, PADDING), (PADDING, PADDING)))
        block = IMAGE_SIZE // self.size
        images = images.reshape(-1, self.size, block, self.size, block).mean(axis=(2, 4))
        x_ND = 2 * images.reshape(len(images), -1) - 1
        if self.name == "generalization":
            return x_ND
        x_ND = x_ND - x_ND.mean(axis=0)
        return x_ND[separable_subset(x_ND, self.n).indices]

    def start(self, seed: int) -> Float[np.ndarray, "D P"]:
        """Random start with columns N(0, I/D)."""
        check_count(self.width, "p")
        random = np.random.default_rng(seed)
        return random.standard_normal((self.n_features, self.width)) / self.size


MEMORIZATION = Recipe("memorization", 5, "rmsprop", 1e-3, 1e-2, None)
GENERALIZATION = Recipe("generalization", 10_000, "adam", 1e-4, 1e-4, 256)
