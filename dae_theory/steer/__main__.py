"""Samples along a direction: ``python -m dae_theory.steer --model=NAME --concept=GARMENT
--out=DIR``.

Makes samples of a model at several strengths of a concept's direction (docs/THEORY.md#steering),
all strengths from the same starts, and measures what the direction does. DIR gets strip.png, the
pictures with the measured response under them, steering.csv, a line a picture, and direction.npz
beside its card direction.json, which --direction takes instead of making a new one.

--model is the name of a shipped model, or a checkpoint NAME.npz beside its card. Strengths are
shares of the activation's norm, or with --norelative multiples of the direction as it is. Exit
status 0, or 2 on bad input.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dae_theory.checks import InputError, check_count, check_seed
from dae_theory.commands import configure_jax, option, run_main
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.sampling import Sampler, find_copies
from dae_theory.steer import metrics
from dae_theory.steer.apply import Steering, checked_strengths, steer_samples
from dae_theory.steer.classifier import shipped_classifier
from dae_theory.steer.directions import (
    KINDS,
    Direction,
    concept_direction,
    load_direction,
    save_direction,
)
from dae_theory.steer.garments import concept_index, garment_references, load_garment_model
from dae_theory.steer.model import SteerModel
from dae_theory.steer.nets import of_checkpoint
from dae_theory.steer.report import Strip, write_strip


@dataclass(frozen=True)
class Options:
    """The command's options."""

    model: str | None = option(None, "Name of a shipped model, or an .npz file.")
    concept: str | None = option(None, "A garment.")
    caption: str = option("", "Of all samples, for a model that takes captions.")
    strengths: tuple[float, ...] = option((-1.0, -0.5, 0.0, 0.5, 1.0), "Signed.")
    count: int = option(8, "Starts.")
    seed: int = option(0, "Of the starts.")
    steps: int = option(Sampler().steps, "Of the sampler.")
    layers: tuple[str, ...] = option((), "Layers that are steered; default the model's usual one.")
    kind: str = option("mean", f"Of the direction: {', '.join(KINDS)}.")
    references: int = option(50, "Images of the concept that the direction is made from.")
    sigma: float | None = option(None, "Noise level of the references.")
    direction: str | None = option(None, "File of a direction made before.")
    out: str | None = option(None, "Folder of the results.")
    steering: Steering = field(default_factory=Steering)

    def __post_init__(self) -> None:
        for name, words in (("model", "NAME"), ("concept", "GARMENT"), ("out", "DIR")):
            if getattr(self, name) is None:
                raise InputError(f"{name}: is missing; --{name}={words}")
        check_count(self.count, "count")
        check_seed(self.seed)


def steer_command(options: Options) -> int:
    """Make a direction, sample along it, and write what came of it."""
    concept_index(options.concept)
    strengths = np.unique(checked_strengths(options.strengths))
    checkpoint = load_garment_model(options.model)
    model = of_checkpoint(checkpoint, Sampler(options.steps))
    direction = _direction(options, model)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    strip = steered_strip(options, checkpoint, model, direction, strengths)
    save_direction(direction, out / "direction.npz")
    write_strip(strip, out)
    chances = metrics.probability(strip.log_odds).mean(axis=1)
    shown = ", ".join(f"{s:g}: {c:.2f}" for s, c in zip(strengths, chances, strict=True))
    print(f"{out}: probability of {options.concept} by strength {shown}")
    return 0


def steered_strip(
    options: Options,
    checkpoint: Checkpoint,
    model: SteerModel,
    direction: Direction,
    strengths: np.ndarray,
) -> Strip:
    """Samples at all strengths, and what the classifier sees in them."""
    start_ND = model.starts(options.seed, options.count)
    captions = [options.caption] * options.count
    made = steer_samples(model, direction, strengths, start_ND, captions, options.steering)
    rows = made.reshape(-1, model.size)
    found = shipped_classifier()(rows)
    log_odds = metrics.log_odds(found.log_probability, concept_index(options.concept))
    (base_ND,) = steer_samples(model, direction, [0.0], start_ND, captions, options.steering)
    return Strip(
        options.concept,
        strengths,
        made,
        model.image_shape,
        log_odds.reshape(made.shape[:2]),
        metrics.distances(made, base_ND),
        find_copies(rows, checkpoint.known_images()).ratio.reshape(made.shape[:2]),
    )


def _direction(options: Options, model: SteerModel) -> Direction:
    if options.direction is not None:
        direction = load_direction(options.direction)
        direction.check_fits(model)
        return direction
    positive, negative = garment_references(options.concept, options.references)
    return concept_direction(
        model,
        options.concept,
        positive,
        negative,
        kind=options.kind,
        layers=options.layers,
        sigma=options.sigma,
    )


def main(argv: list[str]) -> int:
    """Run the command; returns the exit status."""
    return run_main(steer_command, Options, argv, __doc__)


if __name__ == "__main__":
    configure_jax(float64=False)
    sys.exit(main(sys.argv))
