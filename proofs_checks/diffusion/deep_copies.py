"""Copies among the samples of the shipped deep models: the memorizing, the generalizing, and the
hybrid ones, which do both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from dae_theory.deep.sampling import find_copies
from dae_theory.steer.metrics import energy_distance
from proofs_checks.claims import Claim, Kind, Measured, Mutant, Verdict
from proofs_checks.config import DataUsed, RunConfig
from proofs_checks.diffusion.kept import kept
from proofs_checks.diffusion.shipped import (
    ALL_IMAGES,
    NO_CAPTION,
    OTHER,
    PLANTED,
    SAMPLES,
    ShippedModels,
)
from proofs_checks.mutants import instead


class Sampled(NamedTuple):
    """What is sampled: a shipped model, under which captions (`evaluation.prompts`), and the model
    among whose training images copies are looked for."""

    checkpoint: str
    kind: str
    reference: str


def own(checkpoint: str, kind: str = NO_CAPTION) -> Sampled:
    """Copies of the model's own training images."""
    return Sampled(checkpoint, kind, checkpoint)


class Found(NamedTuple):
    """Samples of M a seed: gap ratio, is it a copy, and is the nearest image a planted one."""

    ratio: Float[np.ndarray, "S M"]
    copy: Bool[np.ndarray, "S M"]
    planted: Bool[np.ndarray, "S M"]


def sampled_rows(models: ShippedModels, sampled: Sampled, seed: int) -> Float[np.ndarray, "M D"]:
    """SAMPLES samples of one seed."""
    return models.samples(sampled.checkpoint, sampled.kind, seed)


@dataclass(frozen=True)
class CopySearch:
    """Looks for copies among samples of the shipped models, once a sample.

    Attributes:
      models: what is sampled, and its training images.
      rows: how samples are made.
    """

    models: ShippedModels
    rows: Callable[[ShippedModels, Sampled, int], Float[np.ndarray, "M D"]] = sampled_rows

    @kept
    def found(self, sampled: Sampled, seeds: tuple[int, ...]) -> Found:
        """Which of SAMPLES samples for each seed are copies."""
        images = self.models.training_images(sampled.reference)
        groups_N = self.models.equal_images(sampled.reference)
        copies = [
            find_copies(self.rows(self.models, sampled, seed), images, groups_N) for seed in seeds
        ]
        return Found(*(np.stack([getattr(c, name) for c in copies]) for name in Found._fields))

    @kept
    def excess(self, sampled: Sampled, seeds: tuple[int, ...]) -> float:
        """How much farther the samples are from test images than these are from each other in 95%
        of choices: energy distances of pixels, over the mean distance of two test images."""
        made = np.concatenate([self.rows(self.models, sampled, seed) for seed in seeds])
        real, null = self.models.test_images, self.models.chance(len(made))
        return max(energy_distance(made, real) - null, 0.0) / self.models.apart


@dataclass(frozen=True)
class DeepSampling:
    """Shipped models under test.

    Attributes:
      seeds: of the noise; each draws SAMPLES samples and sees TEST_IMAGES test images.
      search: for copies.
      runs: what claims sample, by the claim's own name for it.
      losses: pairs (network, its generalizing counterpart) whose test losses are compared.
    """

    seeds: tuple[int, ...]
    search: CopySearch
    runs: Mapping[str, Sampled]
    losses: tuple[tuple[str, str], ...]

    def found(self, name: str) -> Found:
        """Which samples of a run are copies."""
        return self.search.found(self.runs[name], self.seeds)

    def test_losses(self, checkpoint: str) -> Float[np.ndarray, " S"]:
        """Mean loss on test images for each seed's noise."""
        return np.array([self.search.models.test_loss(checkpoint, seed) for seed in self.seeds])

    @property
    def missing(self) -> str:
        """Why not all training images can be had; empty when they can."""
        return self.search.models.missing

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        deep = f"{SAMPLES} samples a seed of each shipped model"
        return {"deep": f"{deep}; {self.missing}" if self.missing else deep}

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """Training and test images, by name and hash."""
        models, names = self.search.models, [run.reference for run in self.runs.values()]
        trained_on = (models.trained_on(name) for name in dict.fromkeys(names))
        return (*trained_on, models.all_images("test"))

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """Gap ratios; nothing where images are missing."""
        if self.missing:
            return {}
        return {f"gap_ratio/{name}": self.found(name).ratio for name in self.runs}


def build(config: RunConfig, models: ShippedModels) -> DeepSampling:
    """The shipped models; nothing is sampled before a claim asks for it."""
    return DeepSampling(
        seeds=config.seed_list,
        search=CopySearch(models),
        runs={
            "planted": own("hybrid-text-dit", PLANTED),
            "other": own("hybrid-text-dit", OTHER),
            "hybrid": own("hybrid-unet"),
            "memorizing": own("memorizing-unet"),
            "generalizing": own("generalizing-unet"),
        },
        losses=(
            ("hybrid-unet", "generalizing-unet"),
            ("hybrid-text-dit", "generalizing-text-dit"),
        ),
    )


# --- measurements --------------------------------------------------------------------------------


def share_of_copies(
    name: str, predicted: float, at_least: bool = False
) -> Callable[[DeepSampling], Measured]:
    """Distance of the share of copies from the predicted one, none or all; or what it misses to be
    that one, negative where it is larger; by seed."""

    def measure(e: DeepSampling) -> Measured:
        found = e.found(name)
        share_S = np.mean(found.copy, axis=1)
        shortfall_S = predicted - share_S
        errors_S, cases = (shortfall_S, 0) if at_least else (np.abs(shortfall_S), SAMPLES)
        return Measured(
            float(share_S.mean()),
            predicted,
            errors_S,
            e.seeds,
            f"median gap ratio {np.median(found.ratio):.3f}",
            cases=cases,
        )

    return measure


def no_copies(name: str) -> Callable[[DeepSampling], Measured]:
    """Share of copies, and how far the samples are from test images: noise is no copy, either."""

    def measure(e: DeepSampling) -> Measured:
        found = share_of_copies(name, 0.0)(e)
        excess = e.search.excess(e.runs[name], e.seeds)
        note = f"{found.note}; {excess:.3f} farther from test images than chance"
        return replace(found, errors=np.minimum(found.errors + excess, 1), note=note)

    return measure


def strays(e: DeepSampling) -> Measured:
    """Share of the copies by the hybrid models that are of images that were not planted."""
    found = [e.found(name) for name in ("planted", "hybrid")]
    copies = sum(int(f.copy.sum()) for f in found)
    stray_S = np.sum([np.sum(f.copy & ~f.planted, axis=1) for f in found], axis=0)
    each = max(copies, 1) / len(e.seeds)
    return Measured(
        float(1 - stray_S.sum() / max(copies, 1)),
        1.0,
        stray_S / each,
        e.seeds,
        f"share of the {copies} copies that are of a planted image",
        cases=each,
    )


def worst_loss_ratio(e: DeepSampling) -> Measured:
    """Test loss of a hybrid model over that of its generalizing counterpart, the worse pair."""
    ratios_RS = np.array(
        [e.test_losses(network) / e.test_losses(counterpart) for network, counterpart in e.losses]
    )
    worst = int(np.argmax(ratios_RS.mean(axis=1)))
    return Measured(
        float(ratios_RS[worst].mean()),
        1.0,
        ratios_RS[worst] - 1,
        e.seeds,
        f"{e.losses[worst][0]} against {e.losses[worst][1]}, the worse",
    )


# --- mutants and claims --------------------------------------------------------------------------


def sampling(name: str, run: str, sampled: Sampled) -> Mutant:
    """Something else is sampled in a run."""
    return Mutant(name, lambda e: replace(e, runs={**e.runs, run: sampled}))


def noise_rows(models: ShippedModels, sampled: Sampled, seed: int) -> Float[np.ndarray, "M D"]:
    """Noise of the size of images."""
    images = models.test_images
    return images.std() * np.random.default_rng(seed).standard_normal((SAMPLES, images.shape[1]))


NOISE = Mutant("noise", lambda e: replace(e, search=replace(e.search, rows=noise_rows)))

CLAIMS = (
    Claim(
        id="diffusion/planted-captions",
        statement="The hybrid text model returns its planted images under their captions.",
        source="docs/THEORY.md#cor-3.4",
        part="deep",
        measure=share_of_copies("planted", 1.0),
        tolerance=0.05,
        mutants=(
            sampling(
                "the model without planted images",
                "planted",
                Sampled("generalizing-text-dit", OTHER, "hybrid-text-dit"),
            ),
            sampling("other captions", "planted", own("hybrid-text-dit", OTHER)),
        ),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
    Claim(
        id="diffusion/other-captions",
        statement="Under other captions the same model returns no training image, and what it "
        "returns are images like others.",
        source="docs/THEORY.md#cor-3.4",
        part="deep",
        requires=(ALL_IMAGES,),
        measure=no_copies("other"),
        tolerance=0.01,
        mutants=(sampling("planted captions", "other", own("hybrid-text-dit", PLANTED)), NOISE),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
    Claim(
        id="diffusion/hybrid-copies",
        statement="The hybrid model without text copies in at least a fifth of its samples.",
        source="docs/THEORY.md#cor-3.4",
        part="deep",
        measure=share_of_copies("hybrid", 0.2, at_least=True),
        tolerance=0.0,
        mutants=(
            sampling(
                "the model without planted images",
                "hybrid",
                Sampled("generalizing-unet", NO_CAPTION, "hybrid-unet"),
            ),
        ),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
    Claim(
        id="diffusion/copies-are-planted",
        statement="Every copy that a hybrid model makes is of a planted image.",
        source="docs/THEORY.md#cor-3.4",
        part="deep",
        requires=(ALL_IMAGES,),
        measure=strays,
        tolerance=0.0,
        mutants=(
            sampling(
                "the memorizing model, without planted images", "hybrid", own("memorizing-unet")
            ),
        ),
        kind=Kind.EXPLORATORY,
        expected=Verdict.INCONCLUSIVE,  # no stray was found, which proves no "every"
        slow=True,
    ),
    Claim(
        id="diffusion/memorizing-copies",
        statement="A model trained on few images returns training images.",
        source="docs/THEORY.md#cor-3.2",
        part="deep",
        measure=share_of_copies("memorizing", 1.0),
        tolerance=0.05,
        mutants=(
            sampling(
                "the generalizing model, against the few images",
                "memorizing",
                Sampled("generalizing-unet", NO_CAPTION, "memorizing-unet"),
            ),
        ),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
    Claim(
        id="diffusion/generalizing-copies",
        statement="A model of the same size trained on many images returns none, and what it "
        "returns are images like others.",
        source="docs/THEORY.md#cor-3.3",
        part="deep",
        requires=(ALL_IMAGES,),
        measure=no_copies("generalizing"),
        tolerance=0.01,
        mutants=(sampling("the memorizing model", "generalizing", own("memorizing-unet")), NOISE),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
    Claim(
        id="diffusion/test-loss",
        statement="Planted images cost a hybrid model no more than 10% in loss on test images.",
        source="docs/THEORY.md#cor-3.4",
        part="deep",
        measure=worst_loss_ratio,
        tolerance=0.1,
        mutants=(
            instead("the memorizing model", "losses", (("memorizing-unet", "generalizing-unet"),)),
        ),
        kind=Kind.EXPLORATORY,
        slow=True,
    ),
)
