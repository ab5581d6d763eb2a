"""The certify experiment: closed forms to certify, and studies around them.

python -m proofs_checks.run --regime=certify

By default on a simplex, a mixture of tight clusters and faces; with data, on their most separable
samples and on their clusters; with weights, on the minimum next to them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from dae_theory.checks import InputError
from dae_theory.data import (
    Dataset,
    centred,
    choose_samples,
    cluster_labels,
    faces,
    separable_mixture,
    simplex,
)
from dae_theory.theory.problem import Problem
from dae_theory.weights.read import SavedWeights
from proofs_checks.blocks import (
    STORED_DECAY,
    STORED_SIGMA,
    default_decay,
    even_widths,
    predict_on,
    tightened,
)
from proofs_checks.certify import census_study, dead_units_nets, pair, reach_curves
from proofs_checks.certify.census_study import CensusStudy
from proofs_checks.certify.certified import Certified
from proofs_checks.certify.dead_units_nets import DeadUnits
from proofs_checks.certify.pair import Pair
from proofs_checks.certify.planted import Planted
from proofs_checks.certify.reach_curves import Reach
from proofs_checks.certify.reach_sweeps import stored
from proofs_checks.certify.rotations import Rotations
from proofs_checks.certify.weights import Trained
from proofs_checks.config import DataUsed, RunConfig, data_used, load_data
from proofs_checks.nets import Progress
from proofs_checks.parts import arrays_of

DEFAULT_N = 5  # samples stored
BLOCK_DECAY = 0.3  # nλ over the smallest eigenvalue a block keeps: the remainder grows like 1/λ
FACE_POOL = 50  # faces to choose from
SIMPLEX_N, SIMPLEX_DIMENSION, SIMPLEX_SIGMA = 8, 16, 0.02
MIXTURE_N, MIXTURE_N_QUICK = 60, 24
MIXTURE_DIMENSION, MIXTURE_RANK, MIXTURE_ALPHA = 16, 4, 0.08
MIXTURE_CLUSTERS, MIXTURE_BETA, MIXTURE_P, MIXTURE_SIGMA = 3, -0.5, 12, 0.02
ROTATED_N = 24  # samples of each mixture on which rotations are studied


@dataclass(frozen=True)
class Certificates:
    """Closed forms on the default data, and the studies around them, by the part that claims
    name."""

    simplex: Certified
    mixture: Certified
    faces: Certified
    rotations: Rotations
    pair: Pair
    planted: Planted
    dead_units: DeadUnits
    census: CensusStudy
    reach: Reach
    data: tuple[DataUsed, ...]

    @property
    def settings(self) -> dict:
        """What was certified, for the reader."""
        parts = {"simplex": self.simplex, "mixture": self.mixture, "faces": self.faces}
        return margins(parts) | {"data": "simplex, mixture and faces"}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw."""
        return arrays_of(asked(self, ("simplex", "mixture", "faces", "census", "reach")))


@dataclass(frozen=True)
class DataCertificates:
    """Closed forms on the user's data: on the most separable samples, stored, and on clusters."""

    samples: Certified
    clusters: Certified
    data: tuple[DataUsed, ...]
    note: str

    @property
    def settings(self) -> dict:
        """What was certified, for the reader."""
        parts = {"samples": self.samples, "clusters": self.clusters}
        return margins(parts) | {"data": self.note}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the figures draw."""
        return arrays_of(asked(self, ("samples", "clusters")))


@dataclass(frozen=True)
class WeightsCertificates:
    """The minimum next to weights that were trained elsewhere."""

    trained: Trained
    data: tuple[DataUsed, ...]

    @property
    def settings(self) -> dict:
        """What was certified, for the reader."""
        n, d = self.trained.problem.x.shape
        note = "the minimum next to weights from a file"
        return {"n": n, "d": d, "p": self.trained.w1.shape[1], "data": note}

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """No figure draws it."""
        return {}


def margins(parts: dict[str, Certified]) -> dict[str, float]:
    """Gate margin z of each closed form."""
    return {f"z of {name}": certified.margin for name, certified in parts.items()}


def asked(certificates: Certificates | DataCertificates, names: Sequence[str]) -> dict[str, Any]:
    """Those of the parts of which a claim has asked for something, by name."""
    parts = {name: getattr(certificates, name) for name in names}

    def has_cached(part: Any) -> bool:
        return bool(vars(part).keys() - {field.name for field in fields(part)})

    return {name: part for name, part in parts.items() if has_cached(part)}


def build(config: RunConfig, progress: Progress) -> Certificates | DataCertificates:
    """The experiment a config describes; nothing is measured before a claim asks for it.

    Raises:
      InputError: for data that cannot be used, or fewer units than clusters.
    """
    del progress  # no net is trained here
    return on_default_data(config) if config.data is None else on_users_data(config)


def on_default_data(config: RunConfig) -> Certificates:
    """A simplex, a mixture of tight clusters and faces."""
    seeds, n = config.seed_list, config.n
    corners = simplex(n or SIMPLEX_N, max(SIMPLEX_DIMENSION, n or 0), seed=config.first_seed)
    images = centred(faces())
    size = max(FACE_POOL, min(n or 0, len(images.x)))
    pool = np.random.default_rng(config.first_seed).permutation(len(images.x))[:size]
    found, note = choose_samples(images.x[pool], n or DEFAULT_N)
    chosen = pool[found]
    mixture_n = n or (MIXTURE_N_QUICK if config.quick else MIXTURE_N)
    mixture_ND, labels_N = mixture_samples(config.first_seed, mixture_n)
    sigma, lam, p = config.sigma or MIXTURE_SIGMA, config.lam, config.p or MIXTURE_P
    rotated = (clustered(*mixture_samples(s, ROTATED_N), MIXTURE_P, MIXTURE_SIGMA) for s in seeds)
    return Certificates(
        simplex=Certified(stored_at(corners.x, config.sigma or SIMPLEX_SIGMA, lam)),
        mixture=Certified(clustered(mixture_ND, labels_N, p, sigma, lam)),
        faces=Certified(faces_at(images.x[chosen], config.sigma, lam)),
        rotations=Rotations(tuple(rotated), seeds),
        pair=pair.pair_at(pair.COSINE),
        planted=Planted(),
        dead_units=dead_units_nets.build(config.data_seeds, config.quick),
        census=census_study.build(seeds, config.quick),
        reach=reach_curves.build(seeds, config.quick),
        data=(
            data_used(corners, corners.x, "all corners"),
            data_used(
                Dataset("mixture", mixture_ND, labels=labels_N), mixture_ND, "tight clusters"
            ),
            data_used(images, images.x[chosen], note),
        ),
    )


def on_users_data(config: RunConfig) -> DataCertificates:
    """The most separable samples of a data set, stored, and its clusters."""
    dataset = load_data(config, config.data, config.n or DEFAULT_N)
    sigma = config.sigma or STORED_SIGMA
    chosen, note = choose_samples(dataset.x, config.n or DEFAULT_N)
    labels_N, words = cluster_labels(dataset.x, dataset.labels)
    n_clusters = int(labels_N.max()) + 1
    p = config.p or max(MIXTURE_P, n_clusters)
    if p < n_clusters:
        raise InputError(f"p: {p} units cannot serve {n_clusters} clusters; give more")
    return DataCertificates(
        samples=Certified(stored_at(dataset.x[chosen], sigma, config.lam)),
        clusters=Certified(clustered(dataset.x, labels_N, p, sigma, config.lam)),
        data=(
            data_used(dataset, dataset.x[chosen], note),
            data_used(dataset, dataset.x, words),
        ),
        note=f"{note}; {words}",
    )


def from_weights(saved: SavedWeights) -> WeightsCertificates:
    """Certificates of the minimum next to weights that were trained elsewhere."""
    dataset = Dataset("samples of the weights file", saved.problem.x)
    return WeightsCertificates(
        Trained(saved.w1, saved.w2, saved.problem),
        data=(data_used(dataset, dataset.x, f"all {len(dataset.x)} samples"),),
    )


def stored_at(x_ND: Float[np.ndarray, "N D"], sigma: float, lam: float | None) -> Problem:
    """Each sample a cluster of its own, with the decay of the memorizing nets unless given."""
    problem = stored(x_ND, sigma, STORED_DECAY)
    return problem if lam is None else replace(problem, lam=lam)


def faces_at(x_ND: Float[np.ndarray, "N D"], sigma: float | None, lam: float | None) -> Problem:
    """Stored faces, at a σ small enough for exact statements unless it is given."""
    if sigma is not None:
        return stored_at(x_ND, sigma, lam)
    problem = stored_at(x_ND, STORED_SIGMA, lam)
    return tightened(problem, predict_on(problem).margin)


def clustered(
    x_ND: Float[np.ndarray, "N D"],
    labels_N: Int[np.ndarray, " N"],
    p: int,
    sigma: float,
    lam: float | None = None,
) -> Problem:
    """Clusters with ``p`` units spread over them evenly."""
    widths = even_widths(p, int(labels_N.max()) + 1)
    if lam is None:
        lam = default_decay(x_ND, labels_N, widths, BLOCK_DECAY)
    return Problem(x_ND, sigma, lam, labels_N, widths)


def mixture_samples(seed: int, n: int) -> tuple[Float[np.ndarray, "N D"], Int[np.ndarray, " N"]]:
    """Samples of tight clusters and their labels."""
    mixture = separable_mixture(
        MIXTURE_CLUSTERS,
        MIXTURE_DIMENSION,
        rank=MIXTURE_RANK,
        beta=MIXTURE_BETA,
        alpha=MIXTURE_ALPHA,
        seed=seed,
    )
    return mixture.sample(seed, n)
