"""What a score is: one number an image, high for memorized ones once its sign is applied."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.checks import InputError, check_count
from dae_theory.commands import option
from dae_theory.detect.model import POOLS, DetectorModel


class Need(StrEnum):
    """What a score looks at, beside the model."""

    IMAGE = "image"
    CAPTION = "caption"
    GENERATIONS = "generations"
    TRAINING = "training set"
    CALIBRATION = "calibration set"
    LAYER = "layer"
    JACOBIAN = "Jacobian"


@dataclass(frozen=True)
class ScoreSettings:
    """What scores can be told. A score reads what concerns it.

    Attributes:
      layer: of the model; None is that of the paper.
      pool: 'max' or 'mean' over space.
      draws: of noise, over which a score is averaged. One draw is noisy.
      probes: of a trace, directions that are averaged over (for every draw of noise).
      steps: noise levels of a sampler.
      guidance: weight of classifier-free guidance on its way.
      generations: images made for each caption.
      clique: how many other generations must be near for a caption to count as dense.
    """

    layer: str | None = option(None, "Activation to look at; default the paper's.")
    pool: str = option("max", "max or mean, over space.")
    draws: int = option(8, "Draws of noise that a score is averaged over.")
    probes: int = option(1, "Random directions of a trace, for each draw of noise.")
    steps: int = option(10, "Noise levels of the sampler that a score follows.")
    guidance: float = option(1.0, "Weight of classifier-free guidance on the way.")
    generations: int = option(8, "Images generated for each caption.")
    clique: int = option(2, "Generations that must be near each other.")

    def __post_init__(self) -> None:
        if self.pool not in POOLS:
            raise InputError(f"pool: expected {' or '.join(POOLS)}, got {self.pool!r}")
        for name in ("draws", "probes", "steps"):
            check_count(getattr(self, name), name)
        check_count(self.generations, "generations", 2)
        check_count(self.clique, "clique", 1, self.generations - 1)
        if not np.isfinite(self.guidance):
            raise InputError(f"guidance: must be finite, got {self.guidance}")


@dataclass(frozen=True)
class Context:
    """What comes with the images.

    Attributes:
      settings: of the score.
      captions: one an image, or None.
      training: the model's training images, as rows; for scores that compare with them.
      reference: images known not to be memorized, as rows, on which a score is fitted. Not those
        whose scores calibrate a threshold: they would not be exchangeable with new images.
      reference_captions: one for each of them, or None.
    """

    settings: ScoreSettings = field(default_factory=ScoreSettings)
    captions: Sequence[str] | None = None
    training: Float[np.ndarray, "M D"] | None = None
    reference: Float[np.ndarray, "R D"] | None = None
    reference_captions: Sequence[str] | None = None


Compute = Callable[[PRNGKeyArray, DetectorModel, Float[Array, "N D"], float, Context], Array]


@dataclass(frozen=True)
class Score:
    """A score.

    Attributes:
      name: in the table and on the command line.
      compute: (key, model, x_ND, sigma, context) → (N,), the quantity itself.
      sign: +1 where memorized images have a high quantity, −1 where a low one; fixed by the
        derivation or the paper, never by data.
      needs: what it looks at; without a caption it asks the model with the empty one.
      passes: (settings, passes of a row that the model generates) → forward passes an image; a
        product with a Jacobian counts two.
      paper: whose it is.
      source: link to where it is derived.
    """

    name: str
    compute: Compute
    sign: int
    needs: frozenset[Need]
    passes: Callable[[ScoreSettings, int], int]
    paper: str
    source: str = "docs/THEORY.md#detection"

    def __call__(
        self,
        key: PRNGKeyArray,
        model: DetectorModel,
        x_ND: Float[Array, "N D"],
        sigma: float,
        context: Context,
    ) -> Float[np.ndarray, " N"]:
        """sign · quantity, high = memorized.

        Raises:
          InputError: when something that it needs is missing, and for captions that the model does
            not take or that are not one an image.
        """
        check_needs(self, model, context)
        if context.captions is not None and len(context.captions) != len(x_ND):
            raise InputError(f"captions: got {len(context.captions)} for {len(x_ND)} images")
        return self.sign * np.asarray(self.compute(key, model, x_ND, sigma, context), float)


def check_needs(score: Score, model: DetectorModel, context: Context) -> None:
    """Raise InputError unless a model and what comes with the images have all a score needs."""
    if context.captions is not None and not model.takes_captions:
        raise InputError(f"captions: {model.name} was trained without; leave them out")
    if Need.CAPTION in score.needs:
        if not model.takes_captions:
            raise InputError(
                f"score: {score.name} compares with and without a caption, and {model.name} "
                "takes none"
            )
        if context.captions is None:
            raise InputError(f"captions: {score.name} needs one for each image")
    if Need.GENERATIONS in score.needs and model.sample is None:
        raise InputError(f"score: {score.name} needs generations, and {model.name} makes none")
    if Need.TRAINING in score.needs and context.training is None:
        raise InputError(f"training: {score.name} compares with the training images; give them")
    if Need.CALIBRATION in score.needs and context.reference is None:
        raise InputError(f"calibration: {score.name} is fitted on images that are not memorized")
    if Need.LAYER in score.needs:
        model.checked_layer(context.settings.layer)
    if Need.JACOBIAN in score.needs and model.push is None:
        raise InputError(f"score: {score.name} needs derivatives, and {model.name} has none")


def tokens_of(model: DetectorModel, context: Context) -> Array | None:
    """Tokens of the captions; None, which is the empty caption, where there are none."""
    return None if context.captions is None else model.tokens(context.captions)


def noised(
    key: PRNGKeyArray, x_ND: Float[Array, "N D"], sigma: float, draws: int
) -> Iterator[Float[np.ndarray, "N D"]]:
    """``draws`` times y = x + σ ε."""
    x_ND = np.asarray(x_ND)
    for draw in range(draws):
        noise_ND = jax.random.normal(jax.random.fold_in(key, draw), x_ND.shape)
        yield x_ND + sigma * np.asarray(noise_ND)


def directions(
    key: PRNGKeyArray, shape: tuple[int, ...], probes: int
) -> Iterator[Float[np.ndarray, "N D"]]:
    """``probes`` times random signs: E vvᵀ = I, and vᵀAv is exactly the trace of a diagonal A."""
    for probe in range(probes):
        key_probe = jax.random.fold_in(key, probe)
        yield np.asarray(jax.random.rademacher(key_probe, shape, float))
