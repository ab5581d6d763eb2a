"""What every detector says of the labelled images of one model."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import jax
import numpy as np
from jaxtyping import Float

from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.sampling import Sampler
from dae_theory.detect.model import DetectorModel, of_checkpoint
from dae_theory.detect.scores import SCORES
from dae_theory.detect.scores.score import Context, Need, ScoreSettings
from dae_theory.detect.study.images import Labelled, reference_images
from dae_theory.detect.study.settings import CHOSEN, SIGMAS, family

DRAWS = 4
PAPER_SIGMA = 0.1
CAPTION = "right caption"
IMAGE_ONLY = ("local_dimension", "sharpness")
WITH_CAPTION = ("sharpness_difference", "curvature_difference", "anisotropy", "generation_radius")


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
        """Forward passes an image, or a caption where nothing else is looked at; a product with a
        Jacobian counts two."""
        return SCORES[self.score].passes(self.settings, Sampler().passes)


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
    for name in ("variation", "participation_ratio", "activation_outlier", "training_gap"):
        yield Detector(name, name)
    if text:
        for name in ("denoising_error", "jacobian_trace"):
            yield Detector(f"{name}, {CAPTION}", name, SIGMAS[name], caption=True)
        for name in WITH_CAPTION:
            yield Detector(name, name, caption=True)


def scores_of(
    checkpoint: Checkpoint,
    images: Labelled,
    training_MD: Float[np.ndarray, "M D"],
    *,
    whole: bool,
) -> dict[str, Float[np.ndarray, " N"]]:
    """Scores of all images by the detector's name, high = memorized."""
    model = of_checkpoint(checkpoint)
    context = Context(
        training=training_MD, reference=reference_images(checkpoint) if whole else None
    )
    return {
        detector.name: ask(detector, model, images, context, checkpoint.config.seed)
        for detector in detectors(checkpoint.config.network, whole=whole)
    }


def ask(
    detector: Detector, model: DetectorModel, images: Labelled, context: Context, seed: int
) -> Float[np.ndarray, " N"]:
    """One detector's scores of all images.

    One that only looks at what the model makes of a caption is asked once a caption: images that
    share it share the generations, and their scores are equal.
    """
    score, rows_ND = SCORES[detector.score], images.rows
    captions, index_N = images.captions, np.arange(len(rows_ND))
    if Need.GENERATIONS in score.needs and Need.IMAGE not in score.needs:
        captions, first, index_N = np.unique(captions, return_index=True, return_inverse=True)
        captions, rows_ND = captions.tolist(), rows_ND[first]
    context = replace(
        context, settings=detector.settings, captions=captions if detector.caption else None
    )
    found = score(jax.random.key(seed), model, rows_ND, detector.sigma, context)
    return found[index_N]
