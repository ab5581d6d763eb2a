"""Copies among the samples of the shipped deep models: the memorizing, the generalizing, and the
hybrid ones, which do both.

What is sampled is kept for the whole run, so that claims about the same samples share them.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dae_theory.checks import InputError
from dae_theory.deep.checkpoints import SHIPPED, load_checkpoint
from dae_theory.deep.evaluation import held_out_losses, prompts
from dae_theory.deep.images import TrainingSet
from dae_theory.deep.sampling import BATCH, find_copies, sample_images
from dae_theory.memorization.nearest import duplicate_groups
from proofs_checks.claims import Assumption, Claim, Evidence, Mutant, measure_or_vacuous
from proofs_checks.config import RunConfig

SAMPLES = BATCH  # a seed
TEST_IMAGES = 500  # a seed
PLANTED, OTHER, NO_CAPTION = "planted captions", "other captions", "no caption"


class Run(NamedTuple):
    """What is sampled: a shipped checkpoint, under which captions (`evaluation.prompts`), and the
    checkpoint among whose training images copies are looked for."""

    checkpoint: str
    kind: str
    reference: str


def _run(checkpoint: str, kind: str = NO_CAPTION) -> Run:
    return Run(checkpoint, kind, checkpoint)


class Found(NamedTuple):
    """Samples of M a seed: gap ratio, is it a copy, and is the nearest image a planted one."""

    ratio: Float[np.ndarray, "S M"]
    copy: Bool[np.ndarray, "S M"]
    planted: Bool[np.ndarray, "S M"]


@dataclass(frozen=True)
class DeepSampling:
    """Shipped models under test.

    Attributes:
      seeds: of the noise; each draws SAMPLES samples and sees TEST_IMAGES test images.
      runs: what claims sample, by the claim's own name for it.
      losses: pairs (network, its generalizing counterpart) whose test losses are compared.
      missing: why the training images cannot be had; empty when they can.
    """

    seeds: tuple[int, ...]
    runs: Mapping[str, Run]
    losses: tuple[tuple[str, str], ...]
    missing: str = ""


def missing_images() -> str:
    """Why the images that shipped models were trained on cannot be had; empty when they can."""
    try:
        load_checkpoint(SHIPPED[0]).training_set()
    except InputError as error:
        return str(error)
    return ""


def build(config: RunConfig) -> DeepSampling:
    """The shipped models; nothing is sampled before a claim asks for it."""
    return DeepSampling(
        seeds=config.seed_list,
        runs={
            "planted": _run("hybrid-text-dit", PLANTED),
            "other": _run("hybrid-text-dit", OTHER),
            "hybrid": _run("hybrid-unet"),
            "memorizing": _run("memorizing-unet"),
            "generalizing": _run("generalizing-unet"),
        },
        losses=(
            ("hybrid-unet", "generalizing-unet"),
            ("hybrid-text-dit", "generalizing-text-dit"),
        ),
        missing=missing_images(),
    )


@functools.cache
def training_images(checkpoint: str) -> TrainingSet:
    """What a shipped model was trained on."""
    return load_checkpoint(checkpoint).training_set()


@functools.cache
def equal_images(checkpoint: str) -> Int[np.ndarray, " N"]:
    """Which of these images are equal (`nearest.duplicate_groups`)."""
    return duplicate_groups(training_images(checkpoint).rows)


@functools.cache
def samples_of(checkpoint: str, kind: str, seed: int) -> Float[np.ndarray, "M D"]:
    """SAMPLES samples of a shipped model."""
    loaded = load_checkpoint(checkpoint)
    kinds = prompts(training_images(checkpoint), loaded.config.network.text, SAMPLES, seed)
    return sample_images(loaded, kinds[kind], seed)


@functools.cache
def sampled(run: Run, seeds: tuple[int, ...]) -> Found:
    """Which of SAMPLES samples for each seed are copies."""
    reference = training_images(run.reference), equal_images(run.reference)
    found = [find_copies(samples_of(run.checkpoint, run.kind, seed), *reference) for seed in seeds]
    return Found(*(np.stack([getattr(copies, name) for copies in found]) for name in Found._fields))


@functools.cache
def loss_on_test_images(checkpoint: str, seeds: tuple[int, ...]) -> Float[np.ndarray, " S"]:
    """Mean loss on test images for each seed's noise."""
    loaded = load_checkpoint(checkpoint)
    return np.array([held_out_losses(loaded, TEST_IMAGES, 1, s).mean() for s in seeds])


def check_with_images(measure: Callable[[Any], dict], tolerance: float):
    """A check that measures only where the experiment's ``missing`` says that no image is."""

    def check(experiment: Any) -> Evidence:
        here = not experiment.missing
        assumptions = {"images": Assumption(float(here), "1: Fashion-MNIST is here", here)}
        return measure_or_vacuous(experiment, assumptions, measure, tolerance)

    return check


def _share_of_copies(
    name: str, predicted: float, at_least: bool = False
) -> Callable[[DeepSampling], dict]:
    """Distance of the share of copies from the predicted one, or shortfall below it, by seed."""

    def measure(experiment: DeepSampling) -> dict:
        found = sampled(experiment.runs[name], experiment.seeds)
        share_S = np.mean(found.copy, axis=1)
        shortfall_S = predicted - share_S
        return {
            "measured": float(share_S.mean()),
            "predicted": predicted,
            "errors": np.maximum(shortfall_S, 0) if at_least else np.abs(shortfall_S),
            "seeds": experiment.seeds,
            "note": f"median gap ratio {np.median(found.ratio):.3f}",
        }

    return measure


def _strays(experiment: DeepSampling) -> dict:
    """Share of copies of images that were not planted, in the hybrid models."""
    runs = [experiment.runs[name] for name in ("planted", "hybrid")]
    found = [sampled(run, experiment.seeds) for run in runs]
    copies = sum(int(f.copy.sum()) for f in found)
    stray_S = np.sum([np.sum(f.copy & ~f.planted, axis=1) for f in found], axis=0)
    return {
        "measured": 1 - stray_S.sum() / max(copies, 1),
        "predicted": 1.0,
        "errors": stray_S.astype(float),
        "seeds": experiment.seeds,
        "note": f"share of the {copies} copies that are of a planted image",
    }


def _worst_loss_ratio(experiment: DeepSampling) -> dict:
    ratios_RS = np.array(
        [
            loss_on_test_images(network, experiment.seeds)
            / loss_on_test_images(counterpart, experiment.seeds)
            for network, counterpart in experiment.losses
        ]
    )
    worst = int(np.argmax(ratios_RS.mean(axis=1)))
    return {
        "measured": float(ratios_RS[worst].mean()),
        "predicted": 1.0,
        "errors": np.maximum(ratios_RS[worst] - 1, 0),
        "seeds": experiment.seeds,
        "note": f"{experiment.losses[worst][0]} against {experiment.losses[worst][1]}, the worse",
    }


def _with(name: str, run: Run) -> Callable[[DeepSampling], DeepSampling]:
    return lambda experiment: replace(experiment, runs={**experiment.runs, name: run})


GENERALIZING_TEXT = Mutant(
    "the model without planted images",
    _with("planted", Run("generalizing-text-dit", OTHER, "hybrid-text-dit")),
)

CLAIMS = (
    Claim(
        "diffusion/planted-captions",
        "The hybrid text model returns its planted images under their captions.",
        "THEORY §6, Corollary 3.4",
        check_with_images(_share_of_copies("planted", 1.0), 0.05),
        (
            GENERALIZING_TEXT,
            Mutant("other captions", _with("planted", _run("hybrid-text-dit", OTHER))),
        ),
    ),
    Claim(
        "diffusion/other-captions",
        "Under other captions the same model returns no training image.",
        "THEORY §6, Corollary 3.4",
        check_with_images(_share_of_copies("other", 0.0), 0.01),
        (Mutant("planted captions", _with("other", _run("hybrid-text-dit", PLANTED))),),
    ),
    Claim(
        "diffusion/hybrid-copies",
        "The hybrid model without text copies in at least a fifth of its samples.",
        "THEORY §6, Corollary 3.4",
        check_with_images(_share_of_copies("hybrid", 0.2, at_least=True), 0.0),
        (
            Mutant(
                "the model without planted images",
                _with("hybrid", Run("generalizing-unet", NO_CAPTION, "hybrid-unet")),
            ),
        ),
    ),
    Claim(
        "diffusion/copies-are-planted",
        "Every copy that a hybrid model makes is of a planted image.",
        "THEORY §6, Corollary 3.4",
        check_with_images(_strays, 0.0),
        (
            Mutant(
                "the memorizing model, without planted images",
                _with("hybrid", _run("memorizing-unet")),
            ),
        ),
    ),
    Claim(
        "diffusion/memorizing-copies",
        "A model trained on few images returns training images.",
        "Corollary 3.2",
        check_with_images(_share_of_copies("memorizing", 1.0), 0.05),
        (
            Mutant(
                "the generalizing model, against the few images",
                _with("memorizing", Run("generalizing-unet", NO_CAPTION, "memorizing-unet")),
            ),
        ),
    ),
    Claim(
        "diffusion/generalizing-copies",
        "A model of the same size trained on many images returns none.",
        "Corollary 3.3",
        check_with_images(_share_of_copies("generalizing", 0.0), 0.01),
        (Mutant("the memorizing model", _with("generalizing", _run("memorizing-unet"))),),
    ),
    Claim(
        "diffusion/test-loss",
        "Planted images cost a hybrid model no more than 10% in loss on test images.",
        "Corollary 3.4",
        check_with_images(_worst_loss_ratio, 0.1),
        (
            Mutant(
                "the memorizing model",
                lambda experiment: replace(
                    experiment, losses=(("memorizing-unet", "generalizing-unet"),)
                ),
            ),
        ),
    ),
)


def results(experiment: DeepSampling) -> dict[str, np.ndarray]:
    """Gap ratios behind the claims that were checked."""
    if experiment.missing:
        return {}
    return {
        f"gap_ratio/{name}": sampled(run, experiment.seeds).ratio
        for name, run in experiment.runs.items()
    }


def settings(experiment: DeepSampling) -> dict:
    """What was checked, for the report."""
    return {"deep": experiment.missing or f"{SAMPLES} samples a seed of each shipped model"}
