"""The shipped deep models, and what claims ask of them: training images, samples, test losses.

Each is made when it is first asked for and kept on the object, which mutants share.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError
from dae_theory.data import load
from dae_theory.deep.checkpoints import SHIPPED, Checkpoint, load_checkpoint
from dae_theory.deep.evaluation import held_out_losses, prompts
from dae_theory.deep.images import TrainingSet, shrunk_fashion_mnist
from dae_theory.deep.sampling import BATCH, sample_images
from dae_theory.memorization.nearest import duplicate_groups
from proofs_checks.claims import given
from proofs_checks.config import DataUsed, data_used
from proofs_checks.diffusion.kept import kept

SAMPLES = BATCH  # a seed
TEST_IMAGES = 500  # a seed
PLANTED, OTHER, NO_CAPTION = "planted captions", "other captions", "no caption"


@dataclass(frozen=True)
class ShippedModels:
    """The models of `checkpoints.SHIPPED`, by name."""

    @cached_property
    def missing(self) -> str:
        """Why the images that they were trained on cannot be had; empty when they can."""
        try:
            self.training_images(SHIPPED[0])
        except InputError as error:
            return str(error)
        return ""

    @kept
    def checkpoint(self, name: str) -> Checkpoint:
        """The model."""
        return load_checkpoint(name)

    @kept
    def training_images(self, name: str) -> TrainingSet:
        """What it was trained on."""
        return self.checkpoint(name).training_set()

    @kept
    def equal_images(self, name: str) -> Int[np.ndarray, " N"]:
        """Which of these images are equal (`nearest.duplicate_groups`)."""
        return duplicate_groups(self.training_images(name).rows)

    @cached_property
    def test_images(self) -> Float[np.ndarray, "N D"]:
        """Images that none was trained on, as rows."""
        size = self.checkpoint(SHIPPED[0]).config.network.size
        images, _ = shrunk_fashion_mnist("test", size)
        return images.reshape(len(images), -1)

    @kept
    def samples(self, name: str, kind: str, seed: int) -> Float[np.ndarray, "M D"]:
        """SAMPLES samples, under a kind of captions (`evaluation.prompts`)."""
        checkpoint = self.checkpoint(name)
        text = checkpoint.config.network.text
        kinds = prompts(self.training_images(name), text, SAMPLES, seed)
        return sample_images(checkpoint, kinds[kind], seed)

    @kept
    def test_loss(self, name: str, seed: int) -> float:
        """Mean loss on TEST_IMAGES test images."""
        return float(held_out_losses(self.checkpoint(name), TEST_IMAGES, 1, seed).mean())

    def data(self, names: Sequence[str]) -> tuple[DataUsed, ...]:
        """What these models were trained on, and the test images, by name and hash."""
        if self.missing:
            return ()
        train, test = load("fashion_mnist"), load("fashion_mnist_test")
        seen = (
            data_used(train, self.training_images(name).rows, f"training images of {name}")
            for name in dict.fromkeys(names)
        )
        return (*seen, data_used(test, self.test_images, "all, shrunk"))


IMAGES = given("images", "1: Fashion-MNIST is here", lambda e: not e.missing)
