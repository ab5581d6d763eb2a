"""What the study looks at, as data.

Layers, strengths, windows and tolerances were chosen on DEVELOPMENT concepts with starts of seeds
below 1000; JUDGED concepts, which are all others, and starts of seed JUDGING_SEED were looked at
afterwards. The last four of them had been judged before in a first design, with other starts.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dae_theory.deep.sampling import Sampler

DEVELOPMENT = ("trouser", "coat", "sandal")
JUDGED = ("t-shirt", "shirt", "ankle boot", "pullover", "dress", "sneaker", "bag")
# Along the mean of the positives the score of one judged garment did not rise, along the difference
# of means those of all did: whether it does so of concepts of other kinds was asked afterwards.
WIDE_DEVELOPMENT, WIDE_JUDGED = ("trouser or coat",), ("shoe", "top", "dark", "bright")
DEVELOPMENT_SEED, JUDGING_SEED = 1, 2001  # of starts
WIDE_SEED = 3001  # of those of the wide concepts that are judged
MITIGATION_SEED = 1002  # of those that judge ways of mitigation
STARTS, ABLATION_STARTS = 100, 25
CHOOSING_STARTS, MITIGATED_STARTS = 50, 200
SAMPLER = Sampler(steps=10)
TEXT = "condition/text"
# The largest of .5, .75, 1, … up to which generalized samples of every development concept and
# model are nearer to real images of the garments seen in them than those of the two most similar
# garments are to each other.
STRONGEST = 0.75
GENERALIZED, MEMORIZED = GROUPS = ("generalized", "memorized")
MAIN, RANDOM, DIFFERENCE = "mean", "random", "difference"  # variants of the main comparison
WIDE_DIFFERENCE, WIDE_RANDOM = "difference, wide", "random, wide"


@dataclass(frozen=True)
class Variant:
    """A way of steering, or what is done instead.

    Attributes:
      name: in tables.
      kind: of direction, in `directions.KINDS`.
      random: steered along random directions of equal norm instead, one a start.
      layers: '' for the subject's, a name, or a part of the names of all that are steered.
      sigma: noise level of the references; None is the model's low one.
      references: of each side.
      positives: 'ordinary' training images of the concept, 'half wrong' with half of other
        garments, or 'planted' images.
      first, last: window of noise levels.
      guidance: weight.
      instead: '' to steer; 'caption': the caption names the concept, and strengths are weights of
        guidance.
    """

    name: str
    kind: str = "mean"
    random: bool = False
    layers: str = ""
    sigma: float | None = None
    references: int = 50
    positives: str = "ordinary"
    first: int = 0
    last: int | None = None
    guidance: float = 1.0
    instead: str = ""

    def layers_of(self, subject: "Subject", known: Iterable[str]) -> tuple[str, ...]:
        """The layers that it steers."""
        if not self.layers:
            return subject.layers
        return tuple(layer for layer in known if self.layers in layer)

    def strengths_of(self, subject: "Subject") -> tuple[float, ...]:
        """Its strengths: signed shares, or weights of guidance."""
        return WEIGHTS if self.instead else subject.strengths


@dataclass(frozen=True)
class Subject:
    """A model of the study.

    Attributes:
      name: of a checkpoint.
      groups: of samples: generalized ones are made under ordinary captions, memorized ones under
        those of planted images, half of them of the concept (`material.captions_for`); of models
        without text all samples are of one group.
      layers: that are steered in the main comparison.
      strengths: signed and evenly spaced, relative to the activation.
      variants: of the main comparison.
      ablated, mitigated: whether other variants, and mitigation, are looked at.
      detector: the layer in which detection reads memorization (`detect.study.settings.CHOSEN`, or
        the paper's).
    """

    name: str
    groups: tuple[str, ...]
    layers: tuple[str, ...]
    strengths: tuple[float, ...]
    variants: tuple[Variant, ...]
    ablated: bool = False
    mitigated: bool = False
    detector: str = ""


def grid(largest: float, count: int = 9) -> tuple[float, ...]:
    """Evenly spaced from −``largest`` to ``largest``."""
    return tuple(np.linspace(-largest, largest, count).tolist())


# Of wide concepts; their references differ in more than the concept, and are more.
WIDE = (
    Variant(WIDE_DIFFERENCE, kind="difference", references=200),
    Variant(WIDE_RANDOM, kind="difference", references=200, random=True),
)
WEIGHTS = tuple(np.linspace(0, 2, 9).tolist())
_MAIN = (
    Variant(MAIN),
    Variant(RANDOM, random=True),
    Variant(DIFFERENCE, kind="difference"),
)
_SMALL = {
    "layers": (TEXT,),
    "strengths": grid(STRONGEST),
    "variants": _MAIN,
    "ablated": True,
    "mitigated": True,
    "detector": "block1/units",
}
_LARGE = {"layers": (TEXT,), "strengths": grid(STRONGEST), "variants": _MAIN}
_UNET = {
    "layers": ("middle/units",),
    "strengths": grid(1.5),
    "variants": (Variant(DIFFERENCE, kind="difference"), Variant(RANDOM, random=True)),
}

# In the order of their importance: a study cut short is still of use.
SUBJECTS = (
    Subject("told-dit", GROUPS, **_SMALL),
    Subject("free-dit", GROUPS, **_SMALL),
    Subject("hybrid-text-dit", GROUPS, mitigated=True, detector="block3/units", **_LARGE),
    Subject("generalizing-text-dit", (GENERALIZED,), **_LARGE),
    Subject("memorizing-unet", (MEMORIZED,), **_UNET),
    Subject("generalizing-unet", (GENERALIZED,), **_UNET),
)

ABLATIONS = (
    Variant("leading component", kind="component"),
    Variant("a single unit", kind="unit"),
    *(Variant(f"{count} references", references=count) for count in (2, 10, 100)),
    Variant("half of the references wrong", positives="half wrong"),
    Variant("planted references", positives="planted"),
    Variant("first half of the levels", last=SAMPLER.steps // 2),
    Variant("second half of the levels", first=SAMPLER.steps // 2),
    Variant("guidance 2", guidance=2.0),
    Variant("all attention", layers="attention"),
    Variant("all attention, random", layers="attention", random=True),
    Variant("all attention, σ = .5", layers="attention", sigma=0.5),
    Variant("all units", layers="units"),
    Variant("units of the middle", layers="block1/units"),
    Variant("caption, by guidance", instead="caption"),
)
