"""The shipped deep models, and what claims ask of them: training images, samples, test losses.

Each is made when it is first asked for and kept on the object, which mutants share.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy
from jaxtyping import Float, Int

from dae_theory.checks import InputError
from dae_theory.data import Dataset, fashion_mnist, load
from dae_theory.deep.checkpoints import SHIPPED, Checkpoint, load_checkpoint
from dae_theory.deep.evaluation import held_out_losses, prompts
from dae_theory.deep.images import TrainingSet, fashion_images, known_fashion_images
from dae_theory.deep.sampling import BATCH, sample_images
from dae_theory.memorization.nearest import duplicate_groups
from dae_theory.steer.metrics import energy_null
from proofs_checks.claims import given
from proofs_checks.config import DataUsed
from proofs_checks.diffusion.kept import kept

SAMPLES = BATCH  # a seed
TEST_IMAGES, TEST_POOL = 500, 1000  # a seed, and to draw from
PLANTED, OTHER, NO_CAPTION = "planted captions", "other captions", "no caption"


@dataclass(frozen=True)
class ShippedModels:
    """The models of `checkpoints.SHIPPED`, by name."""

    @cached_property
    def missing(self) -> str:
        """Why not all images that they were trained on can be had; empty when they can."""
        try:
            for split in ("train", "test"):
                fashion_mnist(split, 1)  # downloads it where it is not on this machine
        except InputError as error:
            return f"only the images that come with the package: {error}"
        return ""

    @kept
    def checkpoint(self, name: str) -> Checkpoint:
        """The model."""
        return load_checkpoint(name)

    @kept
    def training_images(self, name: str) -> TrainingSet:
        """What it was trained on, or what of it comes with the package; planted images first."""
        return self.checkpoint(name).known_images()

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
        """The first TEST_POOL images that none was trained on, as rows."""
        images = fashion_images("test", self.size, np.arange(TEST_POOL)).images
        return images.reshape(len(images), -1)

    @cached_property
    def apart(self) -> float:
        """Mean distance of two test images."""
        return float(scipy.spatial.distance.pdist(self.test_images).mean())

    @kept
    def chance(self, size: int) -> float:
        """What the energy distance of ``size`` test images to others exceeds in 5% of choices."""
        return energy_null(self.test_images, size)

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
        """The record of all images of a split, 'train' or 'test', or of the first ones, which come
        with the package."""
        source = "fashion_mnist" if split == "train" else f"fashion_mnist_{split}"
        images = known_fashion_images(split, self.size).images
        shrunk = Dataset("", images.reshape(len(images), -1))
        if self.missing:
            return DataUsed(source, "", f"the first {len(images)}, shrunk", shrunk.sha256)
        return DataUsed(source, load(source).sha256, "all, shrunk", shrunk.sha256)

    @kept
    def trained_on(self, name: str) -> DataUsed:
        """The record of what a model was trained on."""
        whole, rows_ND = self.all_images("train"), self.training_images(name).rows
        of_them = " that come with the package" if self.missing else ""
        selection, chosen = f"training images of {name}{of_them}", Dataset("", rows_ND)
        return replace(whole, selection=selection, selected_sha256=chosen.sha256)


ALL_IMAGES = given(
    "all images", "1: all 60,000 images of Fashion-MNIST are here", lambda e: not e.missing
)
