"""Which images does a model know by heart? Scores, part by part, and verdicts."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from dae_theory.checks import (
    InputError,
    check_noise_and_decay,
    check_samples,
    check_seed,
)
from dae_theory.commands import option
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.detect.calibrate import CONFIDENCE, Calibration, calibrate, check_enough
from dae_theory.detect.images import Images, read_images
from dae_theory.detect.load import Loaded, load_model
from dae_theory.detect.model import DetectorModel, of_checkpoint
from dae_theory.detect.scores import SCORES
from dae_theory.detect.scores.score import Context, Need, Score, ScoreSettings, check_needs
from dae_theory.detect.store import identity, kept_scores, open_folder
from dae_theory.memorization.copies import gap_ratio
from dae_theory.memorization.nearest import nearest_two, with_mirrored

PART = 256  # images, the unit of what is kept
OWN = "own"  # training images that the model itself names
ASKED, CALIBRATING, HALVES = range(3)  # keys

Progress = Callable[[str, float, float], None]


@dataclass(frozen=True)
class DetectConfig:
    """How images are judged.

    Attributes:
      score: a name of `scores.SCORES`.
      sigma: noise level, in units of the model's rows; None is the model's.
      fpr: share of images that are not memorized which may be flagged.
      seed: of the noise.
      settings: of the score.
    """

    score: str = option("std", f"One of {', '.join(SCORES)}.")
    sigma: float | None = option(None, "Noise level; default the model's.")
    fpr: float = option(0.01, "False-positive rate to be promised; needs 1/fpr − 1 images.")
    seed: int = option(0, "Of the noise.")
    settings: ScoreSettings = field(default_factory=ScoreSettings)

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise InputError(f"score: expected one of {', '.join(SCORES)}, got {self.score!r}")
        if self.sigma is not None:
            check_noise_and_decay(self.sigma, 0.0)
        if not 0 < self.fpr < 1:
            raise InputError(f"fpr: must be between 0 and 1, got {self.fpr}")
        check_seed(self.seed)


@dataclass(frozen=True)
class Copied:
    """Nearest training image of each image (N), its distance, and the gap ratio, a copy's below
    `COPY_RATIO`."""

    nearest: Int[np.ndarray, " N"]
    distance: Float[np.ndarray, " N"]
    ratio: Float[np.ndarray, " N"]


@dataclass(frozen=True)
class Detection:
    """What was found.

    Attributes:
      model: the model.
      config: with the noise level and the layer that were used.
      images: those that were judged, and why others were not.
      scores: (N,), high = memorized.
      passes: forward passes that an image took.
      calibration: None when there were no images to calibrate on.
      training: the training images that were compared with, as rows; None when there were none.
      copied: against the training images.
      notes: what a reader should know, a line each.
    """

    model: DetectorModel
    config: DetectConfig
    images: Images
    scores: Float[np.ndarray, " N"]
    passes: int
    calibration: Calibration | None = None
    training: Float[np.ndarray, "M D"] | None = None
    copied: Copied | None = None
    notes: tuple[str, ...] = ()

    @property
    def p_values(self) -> Float[np.ndarray, " N"] | None:
        """Conformal p-values; None without calibration."""
        return None if self.calibration is None else self.calibration.p_values(self.scores)

    @property
    def flagged(self) -> Bool[np.ndarray, " N"] | None:
        """Which images are called memorized; None without calibration."""
        return None if self.calibration is None else self.calibration.flagged(self.scores)

    @property
    def answer(self) -> str:
        """One line: how many of how many are flagged, and how many of them may be false alarms."""
        n = len(self.scores)
        if self.calibration is None:
            top = self.images.names[int(np.argmax(self.scores))]
            return (
                f"{n} images ranked by {self.config.score}, {top} highest; without calibration "
                "images none can be called memorized at a promised rate"
            )
        found, given = self.calibration, len(self.calibration.scores)
        return (
            f"{int(self.flagged.sum())} of {n} images flagged as memorized by {self.config.score} "
            f"at a false-positive rate of {self.config.fpr:.3g}; expected false alarms: up to "
            f"{found.expected_false_alarms(n):.2g}, at most {found.most_false_alarms(n)} with "
            f"{CONFIDENCE:.0%} confidence ({given} calibration images)"
        )


def detect_memorized(
    model: str | Path | Checkpoint | DetectorModel,
    images: str | Path | Float[Array, "N D"],
    *,
    captions: str | Path | Sequence[str] | None = None,
    calibration: str | Path | Float[Array, "M D"] | None = None,
    calibration_captions: str | Path | Sequence[str] | None = None,
    training: str | Path | Float[Array, "T D"] | None = None,
    mirrored: bool = False,
    resize: bool = False,
    out: str | Path | None = None,
    config: DetectConfig | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Detection:
    """Is each image memorized by the model? Scores, and verdicts where there are images to
    calibrate on (docs/THEORY.md#detection).

    Args:
      model: name or file as `load.load_model` takes it, a checkpoint, or any `DetectorModel`.
      images: rows in the model's pixel range, or a path as `images.read_images` takes it; 'own' are
        those it was trained on, as far as they are on this machine.
      captions: one an image, or a file of them. Scores that compare with and without need them; the
        others are prompt-free without, and ask the model with them otherwise.
      calibration: images that are not memorized and otherwise like those asked about. A score that
        is fitted on such images is fitted on a random half of them, and calibrated on the other.
      calibration_captions: theirs, given where the images' are.
      training: training images, or 'own'.
      mirrored: mirror images of training images are copies, too.
      resize: images of another size than the model's are resized; else left out.
      out: folder that keeps what was computed; the same call goes on after a kill.
      config: score, noise level, rate of false positives, and so on.
      progress: called with what is done, how many, and of how many.

    Raises:
      InputError: for what cannot be read or does not fit, a score that needs what is not given, and
        fewer calibration images than the rate needs.
      OSError: when the folder cannot be written.
    """
    config = config or DetectConfig()
    loaded = _loaded(model)
    model = loaded.model
    images = loaded.training() if _is_own(images) else images
    asked = _images(images, model, "images", captions, resize)
    given = calibration
    if given is not None:
        given = _images(calibration, model, "calibration", calibration_captions, resize)
        if (asked.captions is None) != (given.captions is None):
            raise InputError(
                "calibration_captions: give captions for both the images and the calibration "
                "images, or for none: they must be judged alike"
            )
    rows_TD = _training(training, loaded, resize)
    if mirrored and (rows_TD is None or len(model.image_shape) == 1):
        raise InputError(
            "mirrored: needs training images that are images, not rows of numbers; leave it out"
        )
    score = SCORES[config.score]
    config = _resolved(config, score, model)
    reference, given = _halves(score, given, config.seed)
    context = Context(
        config.settings,
        training=rows_TD,
        reference=None if reference is None else reference.rows,
        reference_captions=None if reference is None else reference.captions,
    )
    check_needs(score, model, replace(context, captions=asked.captions))
    if given is not None:
        check_enough(len(given.names), config.fpr)
    shape = model.image_shape if mirrored else None
    settings = identity(model.name, loaded.sha256, config, asked, given, reference, rows_TD)
    with open_folder(out, settings) as parts:
        ask = _Asking(score, model, config, context, parts, progress)
        calibrated = None
        if given is not None:
            calibrated = calibrate(ask(given, "calibration", CALIBRATING), config.fpr)
        scores_N = ask(asked, "images", ASKED)
    return Detection(
        model=model,
        config=config,
        images=asked,
        scores=scores_N,
        passes=score.passes(config.settings, model.passes_a_sample),
        calibration=calibrated,
        training=rows_TD,
        copied=None if rows_TD is None else _copied(asked.rows, rows_TD, shape),
        notes=_notes(asked, given, reference, rows_TD),
    )


@dataclass(frozen=True)
class _Asking:
    """One score asked of images part by part; parts that are kept are not computed again."""

    score: Score
    model: DetectorModel
    config: DetectConfig
    context: Context
    folder: Path | None
    progress: Progress

    def __call__(self, images: Images, what: str, which: int) -> Float[np.ndarray, " N"]:
        key, n = jax.random.fold_in(jax.random.key(self.config.seed), which), len(images.names)
        scores = []
        for first in range(0, n, PART):
            self.progress(what, first, n)
            part, part_key = images.part(slice(first, first + PART)), jax.random.fold_in(key, first)
            ask = functools.partial(self.of_part, part_key, part, what)
            scores.append(kept_scores(self.folder, f"{what}-{first:07d}", ask))
        self.progress(what, n, n)
        return np.concatenate(scores)

    def of_part(self, key: PRNGKeyArray, part: Images, what: str) -> Float[np.ndarray, " N"]:
        context = replace(self.context, captions=part.captions)
        scores = self.score(key, self.model, part.rows, self.config.sigma, context)
        unusable = np.flatnonzero(~np.isfinite(scores))
        if len(unusable):
            name = part.names[unusable[0]]
            raise InputError(f"{what}: the score of {name} is not finite; leave it out")
        return scores


def _loaded(model: str | Path | Checkpoint | DetectorModel) -> Loaded:
    if isinstance(model, Checkpoint):
        digest = model.card.get("weights", {}).get("sha256", "")
        return Loaded(of_checkpoint(model), digest, lambda: model.known_images().rows)
    if not isinstance(model, DetectorModel):
        return load_model(model)

    def unknown():
        raise InputError(f"training: {model.name} does not say what it was trained on; give it")

    return Loaded(model, "", unknown)


def _images(given: Any, model: DetectorModel, name: str, captions: Any, resize: bool) -> Images:
    is_path = isinstance(given, str | Path)
    file = captions if isinstance(captions, str | Path) else None
    if is_path:
        found = read_images(given, model, option=name, captions=file, resize=resize)
    else:
        rows_ND = check_samples(given, name)
        if rows_ND.shape[1] != model.size:
            raise InputError(
                f"{name}: rows of {model.name} have {model.size} numbers, got {rows_ND.shape[1]}"
            )
        found = Images(tuple(map(str, range(len(rows_ND)))), rows_ND)
        if file is not None:
            raise InputError("captions: give a list of them with an array of images")
    if captions is None or file is not None:
        return found
    if len(captions) != len(found.names) or found.left_out:
        raise InputError(f"captions: got {len(captions)} for {len(found.names)} usable images")
    return replace(found, captions=tuple(captions))


def _training(given: Any, loaded: Loaded, resize: bool) -> Float[np.ndarray, "T D"] | None:
    if given is None:
        return None
    if _is_own(given):
        return np.asarray(loaded.training(), float)
    return _images(given, loaded.model, "training", None, resize).rows


def _is_own(given: Any) -> bool:
    return isinstance(given, str) and given == OWN


def _resolved(config: DetectConfig, score: Score, model: DetectorModel) -> DetectConfig:
    """With the noise level, and the layer where one is looked at."""
    sigma = model.sigma if config.sigma is None else config.sigma
    layer = config.settings.layer
    if Need.LAYER in score.needs:
        layer = model.checked_layer(layer)
    elif layer is not None:
        raise InputError(f"layer: {score.name} looks at none; leave it out")
    return replace(config, sigma=sigma, settings=replace(config.settings, layer=layer))


def _halves(score: Score, given: Images | None, seed: int) -> tuple[Images | None, Images | None]:
    """Images to fit a score on, and those to calibrate it on, which must be others."""
    if given is None or Need.CALIBRATION not in score.needs:
        return None, given
    key = jax.random.fold_in(jax.random.key(seed), HALVES)
    order = np.asarray(jax.random.permutation(key, len(given.names)))
    half = len(order) // 2
    return given.part(np.sort(order[:half])), given.part(np.sort(order[half:]))


def _copied(rows_ND, training_TD, mirrored: tuple[int, ...] | None) -> Copied:
    """``mirrored``: the shape of images whose mirror images count, too."""
    compared = (training_TD,) if mirrored is None else with_mirrored(training_TD, mirrored)
    found = nearest_two(rows_ND, *compared)
    nearest_N = found.indices[:, 0] % len(training_TD)
    return Copied(nearest_N, found.distances[:, 0], gap_ratio(found.distances))


def _notes(asked, given, reference, rows_TD) -> tuple[str, ...]:
    notes = [f"{len(asked.left_out)} images left out"] if asked.left_out else []
    notes += [f"images: {asked.note}"] if asked.note else []
    if rows_TD is not None:
        notes.append(f"compared with {len(rows_TD)} training images")
    if given is None:
        return tuple(notes)
    if given.left_out:
        notes.append(f"{len(given.left_out)} calibration images left out")
    if reference is not None:
        notes.append(f"{len(reference.names)} calibration images fitted the score, others judge it")
    known = {row_D.tobytes() for row_D in given.rows}
    both = sum(row_D.tobytes() in known for row_D in asked.rows)
    if both:
        notes.append(
            f"{both} of the images are calibration images, too: nothing is promised for these"
        )
    return tuple(notes)
