"""What a threshold can promise: conformal p-values from images that are not memorized
(docs/THEORY.md#conformal).

If the scores of n calibration images and of a further image that is not memorized are exchangeable,
each place of the new score among them is equally likely, whatever their distribution
(Vovk, Gammerman, Shafer 2005). Nothing is promised for images of another kind than the
calibration images, and nothing on how many memorized ones are found.

Ties: p counts calibration scores that are at least as high, and an image is flagged where p is at
most the rate asked for, that is, where its score is strictly above the threshold. Equal scores can
only make false positives rarer.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Bool, Float

from dae_theory.checks import InputError, check_samples
from dae_theory.theory.calibration import alarms_law, calibration_rank, rate_law

CONFIDENCE = 0.99  # over calibration sets, of what is promised
ROUNDING = 1e-9


@dataclass(frozen=True)
class Calibration:
    """Scores of images that are not memorized, and the rate of false positives asked for.

    Attributes:
      scores: (M,), high = memorized, lowest first.
      fpr: asked for.
    """

    scores: Float[np.ndarray, " M"]
    fpr: float

    @property
    def allowed(self) -> int:
        """k = ⌊fpr (n + 1)⌋: p-values up to k/(n + 1) are flagged."""
        return calibration_rank(len(self.scores), self.fpr)

    @property
    def threshold(self) -> float:
        """The k-th highest calibration score; scores strictly above it are flagged."""
        return float(self.scores[-self.allowed])

    @property
    def rate(self) -> float:
        """k/(n + 1): the rate of false positives on average over calibration sets, at most the
        one asked for."""
        return self.allowed / (len(self.scores) + 1)

    def p_values(self, scores_N: Float[Array, " N"]) -> Float[np.ndarray, " N"]:
        """(1 + number of calibration scores at least as high)/(n + 1)."""
        lower_N = np.searchsorted(self.scores, np.asarray(scores_N, float), side="left")
        return (1 + len(self.scores) - lower_N) / (len(self.scores) + 1)

    def flagged(self, scores_N: Float[Array, " N"]) -> Bool[np.ndarray, " N"]:
        """Whether p ≤ fpr: strictly above `threshold`."""
        return np.asarray(scores_N, float) > self.threshold

    def highest_rate(self, confidence: float = CONFIDENCE) -> float:
        """What the rate of false positives of this calibration set is at most, with ``confidence``
        over calibration sets: a quantile of Beta(k, n + 1 − k), its law where no scores are equal.
        """
        return float(rate_law(len(self.scores), self.allowed).ppf(confidence))

    def expected_false_alarms(self, images: int) -> float:
        """Flagged images of ``images`` that are not memorized, on average."""
        return images * self.rate

    def most_false_alarms(self, images: int, confidence: float = CONFIDENCE) -> int:
        """The most of them with ``confidence``, over calibration sets and images: a quantile of the
        beta-binomial law of ``images`` trials, k and n + 1 − k."""
        return int(alarms_law(len(self.scores), self.allowed, images).ppf(confidence))


def calibrate(scores_M: Float[Array, " M"], fpr: float) -> Calibration:
    """A calibration from scores of images that are not memorized.

    Raises:
      InputError: for scores that are not finite, a rate outside (0, 1), or too few images for it.
    """
    scores_M = np.asarray(scores_M, float)
    if scores_M.ndim != 1:
        raise InputError(f"calibration: expected a score an image, got shape {scores_M.shape}")
    check_enough(len(scores_M), fpr)
    check_samples(scores_M[:, None], "calibration")
    return Calibration(np.sort(scores_M), float(fpr))


def check_enough(images: int, fpr: float) -> None:
    """Raise InputError unless so many calibration images can calibrate the rate."""
    if not 0 < fpr < 1:
        raise InputError(f"fpr: must be between 0 and 1, got {fpr}")
    if images == 0 or calibration_rank(images, fpr) == 0:
        raise InputError(
            f"calibration: fpr={fpr:g} needs at least {fewest_images(fpr)} images that are not "
            f"memorized, got {images}; give more, or ask for a higher rate"
        )


def fewest_images(fpr: float) -> int:
    """Fewest calibration images for a rate: the least n with n ≥ 1/fpr − 1."""
    return int(np.ceil(1 / fpr - ROUNDING)) - 1
