"""The experiment on sampling with ReLU nets: training sets, nets, and measures of their samples."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError
from dae_theory.data import Dataset, choose_samples, separable_mixture
from dae_theory.diffusion.denoisers import DenoisingErrors
from dae_theory.memorization.copies import gap_ratio
from dae_theory.memorization.nearest import directions, nearest_cosine, nearest_two
from dae_theory.theory.closed_forms import predict_memorization
from dae_theory.theory.separability import separability
from proofs_checks.claims import Requirement, at_least, below
from proofs_checks.config import DataUsed, RunConfig, data_used, load_data
from proofs_checks.diffusion.relu_denoisers import RIVALS, SAMPLES, Task
from proofs_checks.diffusion.relu_nets import CLOSED, ReluNets, trained_together
from proofs_checks.draws import Draws, drawn_samples, further_seed
from proofs_checks.monte_carlo import TRAINED_MARGIN
from proofs_checks.nets import Progress

DEFAULT_N, DEFAULT_P = 5, 20  # of the images
N_CLUSTERS, DIMENSION, RANK, BETA, ALPHA = 3, 32, 6, -0.5, 1.0
FEW, MANY, HELD_OUT, WIDTH, POOL = 5, 2000, 1000, 64, 100

DIRECTED = ("images/set", "images/plain", "few/set", "few/plain")
MEMORIZING = (*DIRECTED, "few/preconditioned")
GENERALIZING = ("many/set", "many/plain", "many/preconditioned")
ERRORS = (
    *(
        f"{problem}/{kind}/{points}"
        for problem in ("few", "many")
        for kind in (*RIVALS, "set", "plain", "preconditioned")
        for points in ("train", "test", "generated")
    ),
    "few/closed/train",
    "images/set/train",
    "images/plain/train",
)


@dataclass(frozen=True)
class ReluSampling:
    """Nets of few and of many samples, and what they sample.

    Attributes:
      nets: denoisers of all kinds on images, in units of their rms norm, and on samples of a
        mixture; mutants share them.
      data: the images, the few and the many samples, by name and hash.
      samples, doubled, errors: those of ``nets`` (`ReluNets`) by name, or what is in their place.
      references: training samples (N, D) in the place of those of a task.
    """

    nets: ReluNets
    data: tuple[DataUsed, ...]
    samples: Callable[[str], Float[np.ndarray, "S M D"]]
    doubled: Callable[[str], Float[np.ndarray, "S m D"]]
    errors: Callable[[str], DenoisingErrors]
    references: dict[str, Float[np.ndarray, "N D"]] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those of the nets and of the samples."""
        return self.nets.seeds

    def task(self, name: str) -> Task:
        """The task of 'task/kind'."""
        return self.nets.tasks[name.split("/")[0]]

    def reference(self, name: str) -> Float[np.ndarray, "N D"]:
        """The training samples that samples 'task/kind' are compared with."""
        return self.references.get(name.split("/")[0], self.task(name).x)

    def ratios(self, name: str) -> Float[np.ndarray, "S M"]:
        """Gap ratio of each sample."""
        x_ND = self.reference(name)
        return np.stack(
            [gap_ratio(nearest_two(y_MD, x_ND).distances) for y_MD in self.samples(name)]
        )

    def centred_cosines(self, name: str) -> Float[np.ndarray, "S M"]:
        """Largest cosine to a training sample, the training mean subtracted from both."""
        x_ND = self.reference(name)
        return np.stack([nearest_cosine(y_MD, x_ND).cosines for y_MD in self.samples(name)])

    def along(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Largest cosine to a training sample, nothing subtracted (the nets have no biases, so rays
        from zero matter), and the length of the sample relative to that one's; (S, M) each."""
        x_ND, y_SMD = self.reference(name), self.samples(name)
        zero_D = np.zeros(x_ND.shape[1])
        y_hat_SMD = np.stack([directions(y_MD, zero_D) for y_MD in y_SMD])
        cosine_SMN = y_hat_SMD @ directions(x_ND, zero_D).T
        nearest_SM = np.argmax(cosine_SMN, axis=-1)
        norm_SM = np.linalg.norm(y_SMD, axis=-1)
        return np.max(cosine_SMN, axis=-1), norm_SM / np.linalg.norm(x_ND, axis=1)[nearest_SM]

    @property
    def settings(self) -> dict:
        """What was checked, for the reader."""
        images, few, many = (self.task(name) for name in ("images", "few", "many"))
        return {
            "images": len(images.x),
            "d": images.x.shape[1],
            "p": images.width,
            "few": len(few.x),
            "many": len(many.x),
            "mixture_d": few.x.shape[1],
            "mixture_p": few.width,
            "sigma_max": float(images.levels[0]),
            "sigma_min": float(images.levels[-1]),
            "z": lowest_margin(images),
            "samples": SAMPLES,
            "seeds": len(self.seeds),
            "data": self.data[0].selection,
        }

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What was measured with (5), and with the nets that have been trained.

        ``task/x`` and ``task/levels``; for each kind ``.../samples`` (S, M, D), ``.../ratios``,
        ``.../centred_cosines``, ``.../cosines`` and ``.../lengths`` (S, M); and for each denoiser
        and kind of points ``.../mean`` and ``.../standard_error`` (S, L), squared units of x.
        """
        arrays = {}
        for name, task in self.nets.tasks.items():
            arrays |= {f"{name}/x": task.x, f"{name}/levels": task.levels}
        for name in (*CLOSED, *self.nets.trained):
            cosines, lengths = self.along(name)
            arrays |= {
                f"{name}/samples": self.samples(name),
                f"{name}/ratios": self.ratios(name),
                f"{name}/centred_cosines": self.centred_cosines(name),
                f"{name}/cosines": cosines,
                f"{name}/lengths": lengths,
            }
        for name in filter(self._needs_no_training, ERRORS):
            found = self.errors(name)
            arrays |= {f"{name}/mean": found.mean, f"{name}/standard_error": found.standard_error}
        return arrays

    def _needs_no_training(self, errors: str) -> bool:
        """The nets are trained; for other denoisers, those that they are compared with."""
        problem, kind, _ = errors.split("/")
        nets = {f"{problem}/set"}
        if kind not in (*RIVALS, "closed"):
            nets.add(f"{problem}/{kind}")
        return nets <= self.nets.trained


def build(config: RunConfig, progress: Progress) -> ReluSampling | Draws:
    """The experiment a config describes; of its options the data, n, p and the seeds matter.

    The data are the images to store: by default other ones for each seed, else the user's for all.
    Everything about few against many samples is on mixtures, whose exact denoisers are known.

    Raises:
      InputError: for data that cannot be used, such as samples that are all equal.
    """
    n, width = config.n or DEFAULT_N, config.p or DEFAULT_P
    drawn = config.data is None
    if drawn:
        chosen = [((seed,), *drawn_samples(seed, n)) for seed in config.data_seeds]
    else:
        dataset = load_data(config, config.data, n)
        chosen = [(config.seed_list, dataset, np.arange(len(dataset.x)))]
    draws = [untrained(*each, n, width) for each in chosen]
    nets = trained_together([e.nets for e in draws], progress)
    draws = [sampling(own, e.data) for own, e in zip(nets, draws, strict=True)]
    return Draws(tuple(draws)) if drawn else draws[0]


def untrained(
    seeds: tuple[int, ...], dataset: Dataset, pool_M: Int[np.ndarray, " M"], n: int, width: int
) -> ReluSampling:
    """The most separable ``n`` images of a pool, few and many samples of the mixture of the first
    seed, and nets without a training."""
    found, note = choose_samples(dataset.x[pool_M], n)
    chosen = pool_M[found]
    x_ND, rest_MD = dataset.x[chosen], np.delete(dataset.x, chosen, axis=0)
    scale = float(np.sqrt(np.mean(np.sum(x_ND**2, axis=1))))
    if scale == 0:
        raise InputError("data: all samples are equal, none can be stored; give others")
    # All images in one unit: nets for all levels then share a program, as those of mixtures do.
    images = Task(x_ND / scale, (rest_MD if len(rest_MD) else -x_ND) / scale, 1.0, width)
    seed = seeds[0]
    mixture = separable_mixture(N_CLUSTERS, DIMENSION, rank=RANK, beta=BETA, alpha=ALPHA, seed=seed)
    rng = np.random.default_rng(seed)
    many_ND = rng.permutation(mixture.sample(seed, MANY)[0])
    fresh_TD = rng.permutation(mixture.sample(further_seed(seed, 0), HELD_OUT)[0])
    few, few_note = choose_samples(many_ND[:POOL], FEW)
    norm = float(np.sqrt(1 + ALPHA**2))
    tasks = {
        "images": images,
        "few": Task(many_ND[few], fresh_TD, norm, WIDTH),
        "many": Task(many_ND, fresh_TD, norm, WIDTH),
    }
    samples = Dataset("mixture", many_ND)
    data = (
        data_used(dataset, x_ND, note),
        data_used(samples, many_ND[few], f"few: {few_note}"),
        data_used(samples, many_ND, "many: all"),
    )
    return sampling(ReluNets(tasks, mixture, seeds), data)


def sampling(nets: ReluNets, data: tuple[DataUsed, ...]) -> ReluSampling:
    """Nets, and nothing in the place of what they sample."""
    return ReluSampling(nets, data, nets.samples, nets.doubled, nets.errors)


def with_samples(e: ReluSampling, changed: dict[str, Float[np.ndarray, "S M D"]]) -> ReluSampling:
    """Other samples under the same names."""
    return replace(e, samples=lambda name: changed[name] if name in changed else e.samples(name))


def separated(*tasks: str) -> tuple[Requirement, ...]:
    """The stored samples are separable, with open gates at the lowest noise."""

    def beta(e: ReluSampling) -> float:
        return max(separability(e.task(t).x, np.arange(len(e.task(t).x))).beta for t in tasks)

    def margin(e: ReluSampling) -> float:
        return min(lowest_margin(e.task(t)) for t in tasks)

    return (below("beta", 0, beta), at_least("z at the lowest noise", TRAINED_MARGIN, margin))


def lowest_margin(task: Task) -> float:
    """Gate margin z of (5) at the lowest noise."""
    return predict_memorization(task.x, float(task.levels[-1]), task.lam).margin


def memorized(*names: str) -> Requirement:
    """The nets return their training samples at the lowest noise."""

    def error(e: ReluSampling) -> float:
        return max(
            float(np.mean(e.errors(f"{name}/train").mean[:, -1]) / e.task(name).scale ** 2)
            for name in names
        )

    return below("error at the lowest noise", 0.05, error, needs_others=True)
