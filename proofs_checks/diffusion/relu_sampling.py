"""The experiment on sampling with ReLU nets: training sets, nets, and measures of their samples."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from dae_theory.checks import InputError
from dae_theory.data import Dataset, choose_samples, separable_mixture
from dae_theory.diffusion.denoisers import DenoisingErrors
from dae_theory.memorization.copies import gap_ratio
from dae_theory.memorization.nearest import directions, nearest_cosine, nearest_two
from dae_theory.theory.closed_forms import predict_memorization
from dae_theory.theory.separability import separability
from proofs_checks.claims import Requirement, at_least, below
from proofs_checks.config import DataUsed, RunConfig, data_used, load_data
from proofs_checks.diffusion.exact import ExactSampling
from proofs_checks.diffusion.relu_denoisers import RIVALS, SAMPLES, Task
from proofs_checks.diffusion.relu_nets import CLOSED, ReluNets, untrained_nets
from proofs_checks.diffusion.relu_pair import StoredPair
from proofs_checks.monte_carlo import TRAINED_MARGIN
from proofs_checks.nets import Progress

DEFAULT_DATA, DEFAULT_N, DEFAULT_P = "faces", 5, 20  # of the images
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
      nets: denoisers of all kinds; mutants share them.
      exact, pair: experiments with denoisers that are not trained.
      dataset: what the images were chosen from; note: how, in words.
      few_note: how the few samples of the mixture were.
      samples, doubled, errors: those of ``nets`` (`ReluNets`) by name, or what is in their place.
      references: training samples (N, D) in the place of those of a task.
    """

    nets: ReluNets
    exact: ExactSampling
    pair: StoredPair
    dataset: Dataset
    note: str
    few_note: str
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
            "samples": SAMPLES,
            "seeds": len(self.seeds),
            "data": self.note,
        }

    @property
    def data(self) -> tuple[DataUsed, ...]:
        """The samples, by name and hash."""
        mixture = Dataset("mixture", self.task("many").x)
        return (
            data_used(self.dataset, self.task("images").x, self.note),
            data_used(mixture, self.task("few").x, f"few: {self.few_note}"),
            data_used(mixture, mixture.x, "many: all"),
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What was measured with (5), and with the nets that have been trained.

        ``task/x`` and ``task/levels``; for each kind ``.../samples`` (S, M, D), ``.../ratios``,
        ``.../centred_cosines``, ``.../cosines`` and ``.../lengths`` (S, M); and for each denoiser
        and kind of points ``.../mean`` and ``.../standard_error`` (S, L), squared data units.
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
        if self.dataset.image_shape is not None:
            arrays["image_shape"] = np.array(self.dataset.image_shape)
        if self.dataset.offset is not None:
            arrays["offset"] = self.dataset.offset
        return arrays

    def _needs_no_training(self, errors: str) -> bool:
        """The nets are trained; for other denoisers, those that they are compared with."""
        problem, kind, _ = errors.split("/")
        nets = {f"{problem}/set"}
        if kind not in (*RIVALS, "closed"):
            nets.add(f"{problem}/{kind}")
        return nets <= self.nets.trained


def build(config: RunConfig, progress: Progress) -> ReluSampling:
    """The experiment a config describes; of its options the data, n, p and the seeds matter.

    The data are the images to store. Everything about few against many samples is on a mixture,
    whose exact denoiser is known.

    Raises:
      InputError: for data that cannot be used, such as samples that are all equal.
    """
    n = config.n or DEFAULT_N
    dataset = load_data(config, config.data or DEFAULT_DATA, n)
    chosen, note = choose_samples(dataset.x, n)
    x_ND = dataset.x[chosen]
    rest = np.delete(dataset.x, chosen, axis=0)
    if not np.any(x_ND):
        raise InputError("data: all samples are equal, none can be stored; give others")
    seed = config.first_seed
    mixture = separable_mixture(N_CLUSTERS, DIMENSION, rank=RANK, beta=BETA, alpha=ALPHA, seed=seed)
    many_ND = np.random.default_rng(seed).permutation(mixture.sample(seed, MANY)[0])
    fresh_TD = np.random.default_rng(seed).permutation(mixture.sample(seed + 1, HELD_OUT)[0])
    few, few_note = choose_samples(many_ND[:POOL], FEW)
    few_ND, scale = many_ND[few], float(np.sqrt(1 + ALPHA**2))
    image_scale = float(np.sqrt(np.mean(np.sum(x_ND**2, axis=1))))
    tasks = {
        "images": Task(x_ND, rest if len(rest) else -x_ND, image_scale, config.p or DEFAULT_P),
        "few": Task(few_ND, fresh_TD, scale, WIDTH),
        "many": Task(many_ND, fresh_TD, scale, WIDTH),
    }
    nets = untrained_nets(tasks, mixture, config.seed_list, progress)
    return ReluSampling(
        nets,
        exact=ExactSampling(nets.seeds, few_ND),
        pair=StoredPair(nets.seeds),
        dataset=dataset,
        note=note,
        few_note=few_note,
        samples=nets.samples,
        doubled=nets.doubled,
        errors=nets.errors,
    )


def with_samples(e: ReluSampling, changed: dict[str, Float[np.ndarray, "S M D"]]) -> ReluSampling:
    """Other samples under the same names."""
    return replace(e, samples=lambda name: changed[name] if name in changed else e.samples(name))


def separated(*tasks: str) -> tuple[Requirement, ...]:
    """The stored samples are separable, with open gates at the lowest noise."""

    def beta(e: ReluSampling) -> float:
        return max(separability(e.task(t).x, np.arange(len(e.task(t).x))).beta for t in tasks)

    def margin(e: ReluSampling) -> float:
        return min(
            predict_memorization(task.x, float(task.levels[-1]), task.lam).margin
            for task in map(e.task, tasks)
        )

    return (below("beta", 0, beta), at_least("z at the lowest noise", TRAINED_MARGIN, margin))


def memorized(*names: str) -> Requirement:
    """The nets return their training samples at the lowest noise."""

    def error(e: ReluSampling) -> float:
        return max(
            float(np.mean(e.errors(f"{name}/train").mean[:, -1]) / e.task(name).scale ** 2)
            for name in names
        )

    return below("error at the lowest noise", 0.05, error, needs_others=True)
