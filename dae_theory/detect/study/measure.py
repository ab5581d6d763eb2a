"""What every detector says of the labelled images of one model."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import Float

from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.network import NetworkConfig
from dae_theory.detect.model import of_checkpoint
from dae_theory.detect.scores import SCORES
from dae_theory.detect.scores.score import Context, ScoreSettings
from dae_theory.detect.study.images import Labelled, reference_images
from dae_theory.detect.study.settings import CHOSEN, SIGMAS, family

DRAWS = 4
PAPER_SIGMA = 0.1
CAPTION = "right caption"
IMAGE_ONLY = ("local_dimension", "sharpness")
WITH_CAPTION = ("sharpness_difference", "curvature_difference", "anisotropy")


@dataclass(frozen=True)
class Detector:
    """A score as it is asked.

    Attributes:
      name: of the column.
      score: in `scores.SCORES`.
      sigma: noise level.
      caption: whether it is told the right caption.
      settings: of the score.
    """

    name: str
    score: str
    sigma: float = PAPER_SIGMA
    caption: bool = False
    settings: ScoreSettings = field(default_factory=lambda: ScoreSettings(draws=DRAWS))

    @property
    def passes(self) -> int:
        """Forward passes an image; a product with a Jacobian counts two."""
        return SCORES[self.score].passes(self.settings, None)  # none of those asked samples


def detectors(network: NetworkConfig, *, whole: bool) -> tuple[Detector, ...]:
    """Those that are asked of a model: the few of the curves, or all."""
    return tuple(_detectors(network, network.text, whole))


def _detectors(network: NetworkConfig, text: bool, whole: bool) -> Iterator[Detector]:
    chosen = CHOSEN[family(network)]
    where = ScoreSettings(chosen.layer, chosen.pool, DRAWS)
    yield Detector("std", "std")
    yield Detector("chosen", chosen.statistic, chosen.sigma, settings=where)
    for name in ("denoising_error", "jacobian_trace"):
        yield Detector(name, name, SIGMAS[name])
    if text:
        yield Detector(f"std, {CAPTION}", "std", caption=True)
        yield Detector("guidance_norm", "guidance_norm", caption=True)
    if not whole:
        return
    for name in IMAGE_ONLY:
        yield Detector(name, name, SIGMAS[name])
    for name in ("variation", "participation_ratio", "activation_outlier"):
        yield Detector(name, name)
    if text:
        for name in ("denoising_error", "jacobian_trace"):
            yield Detector(f"{name}, {CAPTION}", name, SIGMAS[name], caption=True)
        for name in WITH_CAPTION:
            yield Detector(name, name, caption=True)


def scores_of(
    checkpoint: Checkpoint, images: Labelled, *, whole: bool
) -> dict[str, Float[np.ndarray, " N"]]:
    """Scores of all images by the detector's name, high = memorized."""
    config = checkpoint.config
    key, model = jax.random.key(config.seed), of_checkpoint(checkpoint)
    reference = reference_images(checkpoint) if whole else None
    found = {}
    for detector in detectors(config.network, whole=whole):
        context = Context(
            detector.settings, images.captions if detector.caption else None, reference=reference
        )
        score = SCORES[detector.score]
        found[detector.name] = score(key, model, images.rows, detector.sigma, context)
    return found
