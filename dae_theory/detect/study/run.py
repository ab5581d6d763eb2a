"""The stages of the study: training, choosing on development models, measuring."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dae_theory.deep.checkpoints import Checkpoint, load_checkpoint
from dae_theory.deep.images import training_set
from dae_theory.detect.study.choose import OTHERS, candidate_areas
from dae_theory.detect.study.images import labelled_images
from dae_theory.detect.study.measure import scores_of
from dae_theory.detect.study.settings import (
    CHECKPOINTS,
    CHOSEN,
    DEVELOPMENT,
    FIRST_JUDGING_SEED,
    JUDGING,
    SHIPPED,
    SIGMAS,
    Setting,
    family,
)
from dae_theory.detect.study.store import chosen_of, part_path, write_part
from dae_theory.detect.study.train import checkpoint_at, is_trained
from dae_theory.files import read_settings, write_settings

GROUPS = {"development": DEVELOPMENT, "judging": JUDGING, "shipped": SHIPPED}
Progress = Callable[[str, int, int, str], None]  # stage, done, of, name


class Look(NamedTuple):
    """A model at a step: the name of its part, how it is loaded, and whether it is looked at from
    all sides."""

    name: str
    load: Callable[[], Checkpoint]
    last: bool


def trained(groups: tuple[str, ...]) -> tuple[Setting, ...]:
    """The trainings of these groups."""
    return tuple(s for group in groups for s in GROUPS[group] if isinstance(s, Setting))


def looks(out: Path, groups: tuple[str, ...]) -> Iterator[Look]:
    """All models of these groups at their steps, the ends of all trainings first."""
    for step in reversed(CHECKPOINTS):
        for setting in trained(groups):
            yield Look(
                f"{setting.name}@{step}",
                lambda s=setting, t=step: checkpoint_at(out, s, t),
                step == CHECKPOINTS[-1],
            )
    for name in SHIPPED if "shipped" in groups else ():
        yield Look(name, lambda n=name: load_checkpoint(n), True)


def choose(out: Path, progress: Progress) -> dict:
    """The areas of all candidates on all development models that are trained, and the best; kept
    in parts/choose-NAME.json."""
    there = [
        look
        for look in looks(out, ("development", "shipped"))
        if look.last and (look.name in SHIPPED or is_trained(out, _setting(look.name)))
    ]
    rows_by_family: dict[str, list[dict]] = {}
    for done, look in enumerate(there):
        path = part_path(out, f"choose-{look.name}")
        if not path.exists():
            progress("choosing", done, len(there), look.name)
            checkpoint = look.load()
            images = labelled_images(checkpoint, _data(checkpoint), whole=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            found = {"family": family(checkpoint.config.network), "copies": images.copies}
            write_settings(path, found | {"rows": candidate_areas(checkpoint, images)})
        kept = read_settings(path, ("family", "rows"))
        rows_by_family.setdefault(kept["family"], []).extend(kept["rows"])
    return chosen_of(rows_by_family, OTHERS)


def _setting(name: str) -> Setting:
    return next(s for s in (*DEVELOPMENT, *JUDGING) if name.startswith(f"{s.name}@"))


def _data(checkpoint: Checkpoint):
    config = checkpoint.config
    return training_set(**config.drawn_as, own_captions=config.own_captions)


def measure(out: Path, groups: tuple[str, ...], progress: Progress) -> list[str]:
    """Measure all models of these groups that are trained and not measured; returns the names of
    all parts that there can be."""
    every = list(looks(out, groups))
    for done, look in enumerate(every):
        ready = look.name in SHIPPED or is_trained(out, _setting(look.name))
        if ready and not part_path(out, look.name).exists():
            progress("measuring", done, len(every), look.name)
            checkpoint = look.load()
            data = _data(checkpoint)
            images = labelled_images(checkpoint, data, whole=look.last)
            scores = scores_of(checkpoint, images, data.rows, whole=look.last)
            write_part(out, look.name, facts_of(checkpoint, look), images, scores)
    return [look.name for look in every]


def facts_of(checkpoint: Checkpoint, look: Look) -> dict:
    """What a reader of the scores needs to know of a model."""
    config = checkpoint.config
    name, _, step = look.name.partition("@")
    return {
        "name": name,
        "step": int(step) if step else config.steps,
        "last": look.last,
        "judging": config.seed >= FIRST_JUDGING_SEED,
        "seed": config.seed,
        "architecture": config.network.architecture,
        "text": config.network.text,
        "planted": config.planted,
        "planted_share": config.planted_share,
        "own_captions": config.own_captions,
        "no_caption_share": config.no_caption_share,
    }


def said_choice() -> dict:
    """What was chosen, as `settings` has it."""
    return {
        "activations": {name: dataclasses.asdict(choice) for name, choice in CHOSEN.items()},
        "sigmas": dict(SIGMAS),
    }
