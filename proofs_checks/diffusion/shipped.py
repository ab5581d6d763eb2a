"""The shipped deep models, and what claims ask of them: training images, samples, test losses.

Each is made when it is first asked for and kept on the object, which mutants share.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError
from dae_theory.data import Dataset, load
from dae_theory.deep.checkpoints import SHIPPED, Checkpoint, load_checkpoint
from dae_theory.deep.evaluation import held_out_losses, prompts
from dae_theory.deep.images import TrainingSet, shrunk_fashion_mnist
from dae_theory.deep.sampling import BATCH, sample_images
from dae_theory.memorization.nearest import duplicate_groups
from proofs_checks.claims import given
from proofs_checks.config import DataUsed
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

    @property
    def size(self) -> int:
        """Pixels a side of their images."""
        return self.checkpoint(SHIPPED[0]).config.network.size

    @cached_property
    def test_images(self) -> Float[np.ndarray, "N D"]:
        """Images that none was trained on, as rows."""
        images, _ = shrunk_fashion_mnist("test", self.size)
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

    @kept
    def all_images(self, split: str) -> DataUsed:
        """The record of all images of a split, 'train' or 'test'."""
        source = "fashion_mnist" if split == "train" else f"fashion_mnist_{split}"
        images, _ = shrunk_fashion_mnist(split, self.size)
        shrunk = Dataset("", images.reshape(len(images), -1))
        return DataUsed(source, load(source).sha256, "all, shrunk", shrunk.sha256)

    @kept
    def trained_on(self, name: str) -> DataUsed:
        """The record of what a model was trained on."""
        whole, rows_ND = self.all_images("train"), self.training_images(name).rows
        selection, chosen = f"training images of {name}", Dataset("", rows_ND)
        return replace(whole, selection=selection, selected_sha256=chosen.sha256)


IMAGES = given("images", "1: Fashion-MNIST is here", lambda e: not e.missing)
