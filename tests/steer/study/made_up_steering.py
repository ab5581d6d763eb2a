"""A made-up study of which everything is known: generalized samples move in equal steps, memorized
ones jump; steering against memorization keeps fidelity, noise loses it."""

import numpy as np

from dae_theory.steer.study.mitigate import (
    AGAINST,
    AGAINST_TEXT,
    BLOCKED,
    GUIDANCE,
    NOISE,
    ORDINARY,
    RANDOM,
    RANDOM_TEXT,
    UNSTEERED,
)
from dae_theory.steer.study.settings import GENERALIZED, MAIN, MEMORIZED
from dae_theory.steer.study.settings import RANDOM as RANDOM_VARIANT
from dae_theory.steer.study.store import merge, shape_name, write_part

STRENGTHS = (-1.0, -0.5, 0.0, 0.5, 1.0)
MODELS, CONCEPTS, STARTS = ("one-dit", "two-dit"), ("dress", "bag"), 3
RISING = {GENERALIZED: (-2, -1, 0, 1, 2), MEMORIZED: (-2, -2, -2, -2, 2)}
WAYS = (AGAINST, AGAINST_TEXT, RANDOM, RANDOM_TEXT, GUIDANCE, NOISE, BLOCKED)


def arrays(group, variant):
    """Equal for all starts; nothing moves along a random direction."""
    score = np.array(RISING[group], float) * (variant == MAIN)
    columns = np.repeat(score[:, None], STARTS, axis=1)
    copied = (group == MEMORIZED) & (columns < 0)
    return {
        "log_odds": np.float16(columns),
        "distance": np.float16(np.abs(columns - columns[2])),
        "cosine": np.float16(1 - 0.1 * np.abs(columns - columns[2])),
        "path": np.float16(np.abs(np.diff(columns, axis=0)) + 0.01),
        "copy": copied,
        "realism": np.float32(np.abs(score)),
    }


def outcomes(count):
    """Way, strength, share of copies, fidelity, distance to real images."""
    rows = [(UNSTEERED, 0.0, 1.0, 0.9, 1.0), (ORDINARY, 0.0, 0.0, 0.8, 0.0)]
    for way in WAYS:
        rows += [(way, 0.5, 0.5, 0.9, 0.8), (way, 1.0, 0.2, 0.5, 0.6)]
    rows.append((AGAINST_TEXT, 2.0, 0.0, 0.8, 0.1))
    first = lambda share: np.arange(count) < round(share * count)  # noqa: E731
    return (
        [{"way": way, "strength": strength} for way, strength, *_ in rows],
        {
            "copy": np.array([first(copies) for _, _, copies, _, _ in rows]),
            "faithful": np.array([first(fidelity) for *_, fidelity, _ in rows]),
            "realism": np.float32([realism for *_, realism in rows]),
        },
    )


def write_study(out):
    """Writes the study; returns how many parts there are."""
    names, mitigated = [], []
    for model in MODELS:
        for variant in (MAIN, RANDOM_VARIANT):
            for group in (GENERALIZED, MEMORIZED):
                for concept in CONCEPTS:
                    found = arrays(group, variant)
                    facts = {
                        "model": model,
                        "variant": variant,
                        "group": group,
                        "concept": concept,
                        "strengths": list(STRENGTHS),
                        "starts": STARTS,
                        "shape": shape_name(found),
                        "main": True,
                    }
                    names.append(f"{model}, {variant}, {group}, {concept}")
                    write_part(out, names[-1], facts, found)
        for choosing in (True, False):
            settings, found = outcomes(10)
            mitigated.append(f"{model}, mitigation, {choosing}")
            facts = {"model": model, "choosing": choosing, "settings": settings}
            write_part(out, mitigated[-1], facts, found)
    ablation = {"model": MODELS[0], "variant": "σ = 2", "group": GENERALIZED, "concept": "dress"}
    numbers = dict.fromkeys(
        (
            *("spearman_of_mean", "spearman", "rising", "monotone", "first_step", "largest_step"),
            *("gain", "kept"),
        ),
        0.5,
    )
    null = dict.fromkeys(CONCEPTS, 0.1)
    names.append("not there")
    return merge(out, names, mitigated, "made up", [ablation | numbers], null, 2.0)
