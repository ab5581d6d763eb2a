"""A made-up study whose areas are known: what `std` says separates nothing, `trace` everything."""

import numpy as np

from dae_theory.detect.study.images import FREE, TOLD, Group, Labelled
from dae_theory.detect.study.store import merge, write_part

PLANTED = 4
NEAR = (Group.PLANTED, Group.OTHER, Group.FREE_COPY, Group.TOLD_COPY)
NEAR += (Group.SHIFTED, Group.OTHER_SHIFTED)
CURVES = ("std", "std, right caption", "guidance_norm", "denoising_error", "chosen")


def images(whole=True):
    """4 planted images, 3 matched to each, 120 unseen ones; with ``whole`` 2 copies of each."""
    sizes = {Group.PLANTED: 1, Group.OTHER: 3}
    if whole:
        sizes |= {Group.FREE_COPY: 2, Group.FREE_MATCHED: 2, Group.TOLD_COPY: 2}
        sizes |= {Group.TOLD_MATCHED: 2, Group.UNSEEN_MATCHED: 3, Group.SHIFTED: 1}
        sizes |= {Group.OTHER_SHIFTED: 3}
    group = np.concatenate([np.full(PLANTED * each, g) for g, each in sizes.items()])
    planted = np.concatenate([np.repeat(np.arange(PLANTED), each) for each in sizes.values()])
    for calibration in (Group.UNSEEN, Group.SAMPLED)[: 2 if whole else 1]:
        group = np.concatenate([group, np.full(120, calibration)])
        planted = np.concatenate([planted, np.full(120, -1)])
    rows = np.zeros((len(group), 4))
    copied = {FREE: (30, 100), TOLD: (90, 100)}
    return Labelled(rows, ("a bag",) * len(group), group, planted, np.array([9, 9, 9, 0]), copied)


def scores(labelled, random):
    """`jacobian_trace` is 1 for what is memorized and 0 else, `training_gap` higher NEAR training
    images; the others are the same for all but `std`, which is at random."""
    memorized = (Group.PLANTED, Group.FREE_COPY, Group.TOLD_COPY, Group.SHIFTED)
    count = len(labelled.group)
    found = {name: np.zeros(count) for name in CURVES}
    found["std"] = random.standard_normal(count)
    found["training_gap"] = np.where(np.isin(labelled.group, NEAR), 0.0, -1.0)
    return found | {"jacobian_trace": np.isin(labelled.group, memorized).astype(float)}


def write_study(out, seeds=(0, 1, 1000, 1001)):
    """Two development models at two steps, and two that judge; returns how many parts there are."""
    names = []
    for seed in seeds:
        for step in (10, 20):
            labelled = images(whole=step == 20)
            facts = {
                "name": f"made-up-{seed}",
                "step": step,
                "last": step == 20,
                "judging": seed >= 1000,
                "seed": seed,
                "architecture": "dit",
                "text": True,
                "planted": PLANTED,
                "planted_share": 0.3,
                "own_captions": True,
                "no_caption_share": 0.1,
            }
            names.append(f"made-up-{seed}@{step}")
            random = np.random.default_rng((seed, step))
            write_part(out, names[-1], facts, labelled, scores(labelled, random))
    return merge(out, [*names, "not-there@20"], "made up", {})
