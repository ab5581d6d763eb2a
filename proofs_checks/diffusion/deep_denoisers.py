"""Denoisers of real images compared, noise level by noise level, on images that some of them were
trained on, on new ones, and on generated ones."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.diffusion.denoisers import (
    Denoiser,
    denoising_errors,
    empirical_denoiser,
    gaussian_denoiser,
    local_pca_denoiser,
)
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Verdict
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.diffusion.kept import kept
from proofs_checks.diffusion.shipped import ALL_IMAGES, NO_CAPTION, ShippedModels

SIGMAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # images are in [−1, 1]
MANY, FEW = "generalizing-unet", "memorizing-unet"
NETS = (MANY, FEW, "hybrid-unet")
CLASSICAL = ("wiener", "local_pca", "empirical")  # all fitted to the many images
DENOISERS = (*CLASSICAL, "empirical_few", *NETS)
POINTS = ("many", "few", "test", "generated")
COUNT = 50  # images a seed
LOW_NOISE = 0.2  # chosen after looking: at .5 local PCA is close, at the highest f_emp is ahead
NEIGHBOURS, RANK = 64, 16


@dataclass(frozen=True)
class ErrorTable:
    """Errors of every denoiser on every kind of image, each measured once."""

    models: ShippedModels

    @kept
    def denoiser(self, name: str) -> Denoiser:
        """One of DENOISERS."""
        if name in NETS:
            return self.models.checkpoint(name).denoiser()
        if name == "empirical_few":
            return empirical_denoiser(self.models.training_images(FEW).rows)
        x_ND = self.models.training_images(MANY).rows
        if name == "empirical":
            return empirical_denoiser(x_ND)
        if name == "local_pca":
            return local_pca_denoiser(x_ND, NEIGHBOURS, RANK)
        covariance = np.cov(x_ND, rowvar=False, bias=True)
        return gaussian_denoiser(x_ND.mean(axis=0), covariance.astype(np.float32))

    @kept
    def points(self, name: str, seed: int) -> Float[np.ndarray, "M D"]:
        """COUNT images: of the training set of one of the nets, new ones, or generated ones."""
        if name == "generated":
            return self.models.samples(MANY, NO_CAPTION, seed)[:COUNT]
        if name == "test":
            x_ND = self.models.test_images
        else:
            x_ND = self.models.training_images({"many": MANY, "few": FEW}[name]).rows
        return x_ND[np.random.default_rng(seed).permutation(len(x_ND))[:COUNT]]

    @kept
    def by_level(self, denoiser: str) -> Callable[[Array, Array], Array]:
        """Errors from images and a key, compiled once for all images."""
        called = self.denoiser(denoiser)
        return jax.jit(lambda x_ND, key: denoising_errors(key, called, x_ND, SIGMAS).mean)

    @kept
    @jax.enable_x64(False)
    def errors(
        self, denoiser: str, points: str, seeds: tuple[int, ...]
    ) -> Float[np.ndarray, "S T"]:
        """Mean squared error ‖x̂ − x‖² at each noise level, equal noise for all denoisers."""
        measure = self.by_level(denoiser)
        return np.stack(
            [measure(jnp.asarray(self.points(points, s)), jax.random.key(s)) for s in seeds]
        )


@dataclass(frozen=True)
class DenoiserComparison:
    """What is compared.

    Attributes:
      seeds: of the noise, and of which images.
      table: of errors.
      generalizing, memorizing: names in DENOISERS.
    """

    seeds: tuple[int, ...]
    table: ErrorTable
    generalizing: str = MANY
    memorizing: str = FEW

    def errors(self, denoiser: str, points: str) -> Float[np.ndarray, "S T"]:
        """Errors of a denoiser on a kind of image, by seed and noise level."""
        return self.table.errors(denoiser, points, self.seeds)

    @property
    def missing(self) -> str:
        """Why not all training images can be had; empty when they can."""
        return self.table.models.missing

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        return {"levels": f"{SIGMAS[0]:g} to {SIGMAS[-1]:g}"}

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """Training and test images, by name and hash."""
        models = self.table.models
        return (models.trained_on(MANY), models.trained_on(FEW), models.all_images("test"))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Errors (S, T) of every denoiser on every kind of image, and the noise levels (T,).

        Nothing where images are missing.
        """
        if self.missing:
            return {}
        errors = {
            f"errors/{points}/{denoiser}": self.errors(denoiser, points)
            for points in POINTS
            for denoiser in DENOISERS
        }
        return errors | {"sigmas": np.array(SIGMAS)}


def build(config: RunConfig, models: ShippedModels) -> DenoiserComparison:
    """The shipped models; nothing is measured before a claim asks for it."""
    return DenoiserComparison(config.seed_list, ErrorTable(models))


def at_worst_level(
    excess_ST: Float[np.ndarray, "S T"], seeds: tuple[int, ...], what: str
) -> Measured:
    """From a relative excess error at each level: the worst level is judged."""
    worst = int(np.argmax(excess_ST.mean(axis=0)))
    return Measured(
        float(1 + excess_ST[:, worst].mean()),
        1.0,
        excess_ST[:, worst],
        seeds,
        f"{what}, at the worst level, sigma = {SIGMAS[worst]:g}",
    )


def over_classical(up_to: float) -> Callable[[DenoiserComparison], Measured]:
    """Excess error of the generalizing net at the levels up to one."""

    def measure(e: DenoiserComparison) -> Measured:
        net_ST = e.errors(e.generalizing, "test")
        others_CST = np.stack([e.errors(name, "test") for name in CLASSICAL])
        excess_ST = net_ST / others_CST.min(axis=0) - 1
        levels = np.array(SIGMAS) <= up_to
        what = "error over that of the best of the others"
        return at_worst_level(excess_ST[:, levels], e.seeds, what)

    return measure


def worse_elsewhere(e: DenoiserComparison) -> Measured:
    """Excess error of each of two nets over the other, where it should be ahead."""
    few, many = e.memorizing, e.generalizing
    own_ST = e.errors(few, "few") / e.errors(many, "few") - 1
    new_ST = e.errors(many, "test") / e.errors(few, "test") - 1
    return at_worst_level(np.maximum(own_ST, new_ST), e.seeds, "error over that of the other net")


MEMORIZING_NET = Mutant("the memorizing net", lambda e: replace(e, generalizing=FEW))
SWAPPED = Mutant("roles swapped", lambda e: replace(e, generalizing=FEW, memorizing=MANY))

CLAIMS = (
    Claim(
        id="diffusion/denoisers-test",
        statement="On new images a generalizing net beats the Wiener filter, local PCA and f_emp "
        f"at every noise level up to {LOW_NOISE:g}.",
        source="docs/THEORY.md#cor-3.3",
        part="denoisers",
        requires=(ALL_IMAGES,),
        measure=over_classical(LOW_NOISE),
        tolerance=0.0,
        mutants=(MEMORIZING_NET,),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
    Claim(
        id="diffusion/denoisers-test-high-noise",
        statement="It does so at every noise level, also where f_emp of many images is nearly "
        "exact.",
        source="docs/THEORY.md#cor-3.3",
        part="denoisers",
        requires=(ALL_IMAGES,),
        measure=over_classical(max(SIGMAS)),
        tolerance=0.0,
        mutants=(MEMORIZING_NET,),
        kind=Kind.EXPLORATORY,
        expected=Verdict.FAILS,
        slow=True,
    ),
    Claim(
        id="diffusion/denoisers-train",
        statement="A memorizing net beats a generalizing one on its own training images at every "
        "level, and is beaten on new ones.",
        source="docs/THEORY.md#deep-models",
        part="denoisers",
        measure=worse_elsewhere,
        tolerance=0.0,
        mutants=(SWAPPED,),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
)
