"""The models of the study, as data: small text DiTs that differ in how captions and planted images
are used, and small models without text.

All are trained on 14×14 images of Fashion-MNIST, each on planted images of its own. Models with
seeds below 1000 served to choose: layers, noise levels, the condition under which detection without
a caption works. Those from 1000 on were trained afterwards and judge what was chosen.
"""

from dataclasses import dataclass

from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.training import DeepConfig

STEPS = 4000
CHECKPOINTS = (STEPS // 2, STEPS)  # steps at which a model is looked at
PLANTED = 8  # images; those of even index are of the validation split
TEXT_DIT = NetworkConfig("dit", width=88, depth=3, patch=7, text=True)  # 0.5M parameters, cheap
PLAIN = {
    "dit": NetworkConfig("dit", width=88, depth=3, patch=7),
    "unet": NetworkConfig("unet", width=16),
}
# With a lower learning rate nets of this size make no copies in so few steps.
SCHEDULE = {"steps": STEPS, "checkpoint_every": CHECKPOINTS[0], "learning_rate": 3e-3, "ema": 0.998}
FIRST_JUDGING_SEED = 1000


@dataclass(frozen=True)
class Setting:
    """A training of the study, by its name."""

    name: str
    config: DeepConfig

    @property
    def judging(self) -> bool:
        """Whether the model was trained after everything was chosen."""
        return self.config.seed >= FIRST_JUDGING_SEED


def text_dit(seed: int, no_caption_share: float, own_captions: bool, share: float) -> Setting:
    """A transformer with captions."""
    captions = "own" if own_captions else "shared"
    return Setting(
        f"dit-{captions}-{no_caption_share:g}-{share:g}-{seed}",
        DeepConfig(
            TEXT_DIT,
            planted=PLANTED,
            planted_share=share,
            own_captions=own_captions,
            no_caption_share=no_caption_share,
            seed=seed,
            **SCHEDULE,
        ),
    )


def plain(seed: int, architecture: str, share: float) -> Setting:
    """A model without text."""
    return Setting(
        f"{architecture}-plain-{share:g}-{seed}",
        DeepConfig(
            PLAIN[architecture],
            planted=PLANTED,
            planted_share=share,
            batch_size=32 if architecture == "unet" else 64,  # a step costs five times as much
            seed=seed,
            **SCHEDULE,
        ),
    )


# In the order of their importance: a study cut short is still of use.
DEVELOPMENT = (
    text_dit(101, 0.5, True, 0.6),
    text_dit(102, 0.1, False, 0.3),
    text_dit(100, 0.1, True, 0.3),
    text_dit(103, 0.5, False, 0.6),
    text_dit(104, 0.5, True, 0.1),
    text_dit(105, 0.1, True, 0.6),
)
JUDGING = (
    text_dit(1000, 0.3, True, 0.6),
    text_dit(1001, 0.3, False, 0.3),
    text_dit(1002, 0.1, True, 0.3),
    text_dit(1003, 0.5, True, 0.3),
    text_dit(1004, 0.5, False, 0.6),
    plain(1011, "dit", 0.6),
    plain(1010, "unet", 0.4),
)
SETTINGS = (*DEVELOPMENT, *JUDGING)
# Trained in development, with seed 0. The second was asked when all that follows, but for its own
# layer, had been chosen and judged.
SHIPPED = ("hybrid-unet", "hybrid-text-dit")


@dataclass(frozen=True)
class Choice:
    """What the paper's score reads, chosen on development models (see `choose`)."""

    layer: str
    pool: str
    statistic: str
    sigma: float


def family(network: NetworkConfig) -> str:
    """Networks whose layers have the same names."""
    return network.architecture if network.architecture == "unet" else f"dit{network.depth}"


CHOSEN: dict[str, Choice] = {
    "dit3": Choice("block1/units", "max", "hoyer", 0.05),
    "dit4": Choice("block3/attention", "mean", "hoyer", 0.4),
    "unet": Choice("middle/units", "max", "std", 0.05),
}
SIGMAS: dict[str, float] = {
    "denoising_error": 0.05,
    "jacobian_trace": 0.05,
    "local_dimension": 0.05,
    "sharpness": 0.05,
}
