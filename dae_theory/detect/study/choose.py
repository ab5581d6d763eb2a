"""Choice of layer, pool, statistic and noise level on the validation images of development models.

Validation images are the planted images of even index, their copies, and the negatives matched to
both. Every candidate is asked without a caption. Signs are those of the table of scores: a
candidate that separates the wrong way around is bad, not good.
"""

from collections.abc import Iterator, Sequence

import jax
import numpy as np
from jaxtyping import Bool, Float

from dae_theory.deep.activations import SPIKY_SIGNS, layer_statistics
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.detect.model import of_checkpoint
from dae_theory.detect.scores import SCORES
from dae_theory.detect.scores.score import Context, ScoreSettings
from dae_theory.detect.study.images import Group, Labelled
from dae_theory.statistics import area_under_roc

LEVELS = (0.05, 0.1, 0.2, 0.4)  # σ
STATISTICS = ("std", "l4_l2", "hoyer", "participation_ratio")  # of activations
OTHERS = ("denoising_error", "jacobian_trace", "local_dimension", "sharpness")
DRAWS = 2
QUESTIONS = (
    (Group.PLANTED, Group.OTHER),
    (Group.FREE_COPY, Group.FREE_MATCHED),
    (Group.TOLD_COPY, Group.TOLD_MATCHED),
)
KEYS = ("score", "layer", "pool", "sigma")


def validation(images: Labelled) -> Bool[np.ndarray, " N"]:
    """Which images belong to the validation split."""
    return (images.planted >= 0) & (images.planted % 2 == 0)


def mean_area(score_N: Float[np.ndarray, " N"], images: Labelled) -> float:
    """Mean of the AUROC over QUESTIONS of which there are images on both sides."""
    areas = []
    for positive, negative in QUESTIONS:
        sides = [score_N[images.group == group] for group in (positive, negative)]
        if all(map(len, sides)):
            areas.append(area_under_roc(*sides))
    return float(np.mean(areas))


def candidate_areas(checkpoint: Checkpoint, images: Labelled) -> list[dict]:
    """A row for each candidate, with KEYS and its 'area' on the validation images."""
    used_N = validation(images) & np.isin(images.group, np.ravel(QUESTIONS))
    asked = Labelled(
        images.rows[used_N],
        tuple(caption for caption, used in zip(images.captions, used_N, strict=True) if used),
        images.group[used_N],
        images.planted[used_N],
        images.reproduced,
        images.copies,
    )
    return [
        dict(zip(KEYS, key, strict=True)) | {"area": mean_area(score_N, asked)}
        for key, score_N in _candidates(checkpoint, asked)
    ]


def _candidates(checkpoint: Checkpoint, images: Labelled) -> Iterator[tuple[tuple, np.ndarray]]:
    network, key = checkpoint.config.network, jax.random.key(checkpoint.config.seed)
    found = layer_statistics(key, network, checkpoint.params, images.rows, LEVELS, None, DRAWS)
    for layer, by_name in found.values.items():
        for name, value_SN in by_name.items():
            pool, statistic = name.split("/")
            if statistic in STATISTICS:
                for sigma, value_N in zip(LEVELS, value_SN, strict=True):
                    yield (statistic, layer, pool, sigma), SPIKY_SIGNS[statistic] * value_N
    model, context = of_checkpoint(checkpoint), Context(ScoreSettings(draws=DRAWS))
    for name in OTHERS:
        for sigma in LEVELS:
            yield (name, "", "", sigma), SCORES[name](key, model, images.rows, sigma, context)


def best(rows: Sequence[dict], scores: Sequence[str]) -> dict:
    """The candidate among these scores with the highest area on average over models."""
    areas: dict[tuple, list[float]] = {}
    for row in rows:
        if row["score"] in scores:
            areas.setdefault(tuple(row[key] for key in KEYS), []).append(row["area"])
    means = {key: float(np.mean(found)) for key, found in areas.items()}
    key = max(means, key=means.__getitem__)
    return dict(zip(KEYS, key, strict=True)) | {"area": means[key]}
