"""Concepts of the study: which captions name them, and how much of them a sample shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from jaxtyping import Float
from scipy.special import logit

from dae_theory.deep.captions import GARMENTS, garment_of
from dae_theory.steer import metrics
from dae_theory.steer.classifier import Classified

LEAST = 1e-4  # of the intensity


@dataclass(frozen=True)
class Concept:
    """Garments, one or several; or a tone.

    Attributes:
      garments: that show it; none for a tone.
      tone: word of captions.
      sign: of the intensity in the score of a tone.
    """

    garments: tuple[str, ...] = ()
    tone: str = ""
    sign: int = 1

    def named_by(self, caption: str) -> bool:
        """Whether a caption names it."""
        if self.tone:
            return self.tone in caption.split()
        return garment_of(caption) in self.garments

    def log_odds(
        self, found: Classified, rows_ND: Float[np.ndarray, "N D"]
    ) -> Float[np.ndarray, " N"]:
        """Of garments, by the classifier; of a tone those of the mean intensity, from 0 for black
        to 1 for white, of the rows, which are in [−1, 1]."""
        if self.tone:
            return self.sign * logit(np.clip((rows_ND.mean(axis=1) + 1) / 2, LEAST, 1 - LEAST))
        return metrics.log_odds(found.log_probability, [GARMENTS.index(g) for g in self.garments])


CONCEPTS: Mapping[str, Concept] = MappingProxyType(
    {garment: Concept((garment,)) for garment in GARMENTS}
    | {
        "trouser or coat": Concept(("trouser", "coat")),
        "shoe": Concept(("sandal", "sneaker", "ankle boot")),
        "top": Concept(("t-shirt", "pullover", "coat", "shirt")),
        "dark": Concept(tone="dark", sign=-1),
        "bright": Concept(tone="bright"),
    }
)
