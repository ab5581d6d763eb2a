"""The rungs of the ladder, in the order of their importance: a run cut short is still of use."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from dae_theory.checks import InputError, check_count, check_noise_and_decay
from dae_theory.commands import option
from dae_theory.deep.ladder.nets import CHANGES, PLAIN, NetConfig
from dae_theory.deep.ladder.training import Schedule

UNTRAINED = "untrained"
F_EMP, HOMOGENEOUS, LOCAL_PCA, FIVE = "f_emp", "homogeneous f_emp", "local PCA", "equation (5)"
EXACT = (F_EMP, HOMOGENEOUS, LOCAL_PCA, FIVE)
FEW_CONTROLS = (F_EMP, HOMOGENEOUS, FIVE, UNTRAINED)  # where nets memorize
MANY_CONTROLS = (F_EMP, LOCAL_PCA, UNTRAINED)  # where they generalize
DEPTHS = (1, 2, 3, 4)
COUNTS = (10, 30, 100, 300, 1000, 3000, 10_000)
MOST = COUNTS[-1]
FEW, MANY = 30, 3000  # images at which the nets that differ in one thing are compared
LOCAL_PCA_SHARE, LOCAL_PCA_MOST = 10, 300  # one of 10 training images is a neighbour, 300 at most
WIDTH = 128
WIDE = "wide"
WIDER = 256  # as many units as it takes to cancel the skip, more than there are pixels
DIFFERENT = (WIDE, *CHANGES)  # from a plain net, in one thing
STEPS = 3000


@dataclass(frozen=True)
class Rung:
    """A denoiser on images.

    Attributes:
      data: one of `data.SOURCES`.
      n: training images.
      kind: PLAIN, one of DIFFERENT, UNTRAINED, or one of EXACT, which have no depth; the nets with
        a skip are as wide as those that are WIDE.
      depth: hidden layers.
    """

    data: str
    n: int
    kind: str = PLAIN
    depth: int = 3

    @property
    def name(self) -> str:
        """As a file may be called."""
        kind = "".join(c if c.isalnum() else "-" for c in self.kind)
        return f"{self.data}-{self.n}-{kind}-{self.depth}"

    def net(self) -> NetConfig:
        """The net; UNTRAINED is a plain one."""
        width = WIDER if self.kind in (WIDE, "skip") else WIDTH
        return NetConfig(self.depth, width, self.kind if self.kind in CHANGES else PLAIN)


@dataclass(frozen=True)
class LadderConfig:
    """A run of the ladder.

    Attributes:
      first_seed: of the nets and their images; those below 1000 served the development, and on 1000
        to 1007 nets were added after a look.
      seeds: nets of each rung, each on images of its own.
      groups: of rungs, in this order: core (depth by number of images), exact (denoisers), changes
        (of the net, few images), second (data sets), between (numbers of images), rest (controls,
        and changes at many images).
      steps: of Adam.
      sigma: noise level at which nets are trained and looked at.
      points: images of each kind at which Jacobians are taken, at most.
    """

    first_seed: int = option(2000, "First seed; earlier ones have been looked at.")
    seeds: int = option(8, "Nets of each rung, each on images of its own.")
    groups: tuple[str, ...] = option(
        ("core", "exact", "changes", "second", "between", "rest"), "Of rungs, in this order."
    )
    steps: int = option(STEPS, "Of Adam.")
    sigma: float = option(0.3, "Noise level; images are in [−1, 1].")
    points: int = option(10, "Images of each kind at which Jacobians are taken, at most.")

    def __post_init__(self) -> None:
        check_count(self.first_seed, "first_seed", 0)
        for name in ("seeds", "steps"):
            check_count(getattr(self, name), name)
        check_count(self.points, "points", 2)
        check_noise_and_decay(self.sigma, 0.0)
        unknown = [group for group in self.groups if group not in GROUPS]
        if unknown or not self.groups:
            raise InputError(f"groups: expected some of {', '.join(GROUPS)}, got {self.groups}")

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds."""
        return tuple(range(self.first_seed, self.first_seed + self.seeds))

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """All rungs, each once."""
        return tuple(dict.fromkeys(rung for group in self.groups for rung in GROUPS[group]))

    def schedule(self, rung: Rung) -> Schedule:
        """How the nets of a rung are trained."""
        how = Schedule(sigma=self.sigma, steps=self.steps)
        return replace(how, steps=0) if rung.kind == UNTRAINED else how


def _of_kinds(data: str, kinds: Iterable[str], counts: Iterable[int]) -> tuple[Rung, ...]:
    return tuple(Rung(data, n, kind) for n in counts for kind in kinds)


GROUPS: dict[str, tuple[Rung, ...]] = {
    "core": tuple(
        Rung("fashion_mnist", n, PLAIN, depth) for n in (FEW, MOST, 10, MANY) for depth in DEPTHS
    ),
    "exact": (
        *_of_kinds("fashion_mnist", FEW_CONTROLS, (FEW, 10)),
        *_of_kinds("fashion_mnist", MANY_CONTROLS, (MOST, MANY)),
    ),
    "changes": _of_kinds("fashion_mnist", DIFFERENT, (FEW,)),
    "second": (
        *(Rung("faces", FEW, PLAIN, depth) for depth in DEPTHS),
        *_of_kinds("faces", FEW_CONTROLS, (FEW,)),
        *(Rung("patches", n, PLAIN, depth) for n in (FEW, MOST) for depth in DEPTHS),
        *_of_kinds("patches", FEW_CONTROLS, (FEW,)),
        *_of_kinds("patches", MANY_CONTROLS, (MOST,)),
    ),
    "between": tuple(
        Rung("fashion_mnist", n, PLAIN, depth) for n in (300, 100, 1000) for depth in DEPTHS
    ),
    "rest": (
        *_of_kinds("shuffled", (PLAIN,), (FEW, MANY)),
        *(Rung("faces", 10, PLAIN, depth) for depth in DEPTHS),
        *_of_kinds("faces", FEW_CONTROLS, (10,)),
        *_of_kinds("fashion_mnist", DIFFERENT, (MANY,)),
    ),
}
