"""Training of the models of the study: a folder each, resumable."""

from collections.abc import Callable, Iterable
from pathlib import Path

from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.training import read_metrics, restore_at, train_deep
from dae_theory.detect.study.settings import STEPS, Setting


def model_folder(out: Path, setting: Setting) -> Path:
    """Where a model is trained."""
    return out / "models" / setting.name


def is_trained(out: Path, setting: Setting) -> bool:
    """Whether all steps are done."""
    rows = read_metrics(model_folder(out, setting))
    return bool(rows) and rows[-1]["step"] == STEPS


def train_models(
    out: Path,
    settings: Iterable[Setting],
    progress: Callable[[str, int, float], None] = lambda name, step, loss: None,
) -> None:
    """Train, or go on training, one after the other; ``progress`` gets name, steps and loss."""
    for setting in settings:
        if not is_trained(out, setting):
            train_deep(
                setting.config,
                model_folder(out, setting),
                progress=lambda step, loss, name=setting.name: progress(name, step, loss),
            )


def checkpoint_at(out: Path, setting: Setting, step: int) -> Checkpoint:
    """A model after one of CHECKPOINTS steps.

    Raises:
      InputError: when the training has not come so far, or its checkpoint is damaged.
    """
    state = restore_at(model_folder(out, setting), setting.config, step)
    return Checkpoint(f"{setting.name}@{step}", setting.config, state.average, {})
