"""Certificates: are the closed forms minima, what else is there, and how far do they reach?

By default on a simplex, a mixture of tight clusters and faces; with data, on their most separable
samples and on their clusters; with weights, on the minimum next to them. Below a gate margin of
EXACT_MARGIN the theory does not apply to exact statements: they are vacuous.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dae_theory.checks import InputError
from dae_theory.data.dataset import Dataset, centred
from dae_theory.data.images import faces
from dae_theory.data.mixtures import equiangular_directions, separable_mixture, simplex
from proofs_checks import certify_census, certify_dead_units, certify_reach
from proofs_checks.blocks import (
    Blocks,
    cluster_labels,
    default_decay,
    even_widths,
    predict_on,
)
from proofs_checks.certify_evidence import (
    Certified,
    Pair,
    Trained,
    exact,
    measure_existence,
    measure_flat_directions,
    measure_minimum,
    measure_pair,
    measure_remainder,
    measure_spectrum,
    measure_stationary,
    measure_trained_dead_units,
    measure_trained_minimum,
)
from proofs_checks.certify_mutants import (
    CURVATURE_OF_HALF,
    DOUBLE_SIGMA,
    FULL_ORTHOGONAL,
    HALF_LAMBDA,
    NO_SYMMETRY,
    ONE_MORE,
    SADDLE,
    SHRUNK,
    UNPROJECTED,
)
from proofs_checks.certify_reach_evidence import stored
from proofs_checks.claims import Assumption, Claim, Evidence, Mutant, Verdict, measure_or_vacuous
from proofs_checks.config import RunConfig
from proofs_checks.memorize import DECAY_FRACTION as STORED_DECAY
from proofs_checks.memorize import DEFAULT_SIGMA, choose_samples
from proofs_checks.memorize_mutants import half_lambda
from proofs_checks.nets import Progress, WeightsFile
from proofs_checks.rotations_evidence import Rotations, measure_rotations

DEFAULT_N = 5  # samples stored
BLOCK_DECAY = 0.3  # nλ over the smallest eigenvalue a block keeps: the remainder grows like 1/λ
SIMPLEX_N, SIMPLEX_DIMENSION, SIMPLEX_SIGMA = 8, 16, 0.02
MIXTURE_N, MIXTURE_DIMENSION, MIXTURE_RANK, MIXTURE_ALPHA = 60, 16, 4, 0.08
MIXTURE_CLUSTERS, MIXTURE_BETA, MIXTURE_P, MIXTURE_SIGMA = 3, -0.5, 12, 0.02
ROTATED_N = 24  # samples of each mixture on which rotations are studied
PAIR_COSINE, PAIR_DIMENSION, PAIR_SIGMA, PAIR_LAM = 0.3, 16, 0.02, 0.01


@dataclass(frozen=True)
class Certificates:
    """Closed forms to certify by name, the studies around them and a net from a file: None where
    the run is not about them."""

    problems: dict[str, Certified]
    rotations: Rotations | None = None
    pair: Pair | None = None
    dead_units: certify_dead_units.DeadUnits | None = None
    census: certify_census.CensusStudy | None = None
    reach: certify_reach.Reach | None = None
    trained: Trained | None = None
    note: str = ""


def build(
    config: RunConfig, dataset: Dataset | None, needs_nets: bool, progress: Progress
) -> Certificates:
    """The problems a config describes; measurements wait until a claim asks for them.

    Raises:
      InputError: for fewer units than clusters.
    """
    del needs_nets, progress  # no net is trained here
    if config.data is not None:
        return _on_data(config, dataset)
    sigma, lam = config.sigma, config.lam
    face_images = centred(faces()).x
    chosen, _ = choose_samples(face_images, config.n or DEFAULT_N)
    simplex_ND = simplex(config.n or SIMPLEX_N, max(SIMPLEX_DIMENSION, config.n or 0)).x
    seeds = config.seed_list
    pair_ND = equiangular_directions(2, PAIR_DIMENSION, PAIR_COSINE)
    return Certificates(
        problems={
            "simplex": Certified(_stored(simplex_ND, sigma or SIMPLEX_SIGMA, lam)),
            "mixture": Certified(_mixture(config)),
            "faces": Certified(_stored(face_images[chosen], sigma or DEFAULT_SIGMA, lam)),
        },
        rotations=Rotations(tuple(_small_mixture(seed) for seed in seeds), seeds),
        pair=Pair(pair_ND, PAIR_SIGMA, PAIR_LAM),
        dead_units=certify_dead_units.build(seeds, config.quick),
        census=certify_census.build(seeds, config.quick),
        reach=certify_reach.build(seeds, config.quick),
        note="simplex, mixture and faces",
    )


def _on_data(config: RunConfig, dataset: Dataset | None) -> Certificates:
    """The most separable samples of a data set, stored, and its clusters."""
    if dataset is None:
        mixture_ND, labels_N = _mixture_samples(0, MIXTURE_N)
        dataset = Dataset("mixture", mixture_ND, labels=labels_N)
    sigma = config.sigma or DEFAULT_SIGMA
    chosen, note = choose_samples(dataset.x, config.n or DEFAULT_N)
    labels_N, clusters = cluster_labels(dataset.x, dataset.labels, len(dataset.x))
    n_clusters = int(labels_N.max()) + 1
    p = config.p or max(MIXTURE_P, n_clusters)
    if p < n_clusters:
        raise InputError(f"p: {p} units cannot serve {n_clusters} clusters; give more")
    blocks = _clustered(dataset.x, labels_N, p, sigma, config.lam)
    return Certificates(
        problems={
            "samples": Certified(_stored(dataset.x[chosen], sigma, config.lam)),
            "clusters": Certified(blocks),
        },
        note=f"{note}; {clusters}",
    )


def from_weights(file: WeightsFile) -> Certificates:
    """Certificates of the minimum next to weights that were trained elsewhere."""
    (weights,) = file.nets.pairs
    trained = Trained(*weights, file.x, file.sigma, file.lam)
    return Certificates({}, trained=trained, note="the minimum next to weights from a file")


def _stored(x_ND: np.ndarray, sigma: float, lam: float | None) -> Blocks:
    blocks = stored(x_ND, sigma, STORED_DECAY)
    return blocks if lam is None else replace(blocks, lam=lam)


def _clustered(x_ND, labels_N, p: int, sigma: float, lam: float | None) -> Blocks:
    widths = even_widths(p, int(labels_N.max()) + 1)
    if lam is None:
        lam = default_decay(x_ND, labels_N, widths, BLOCK_DECAY)
    return Blocks(x_ND, labels_N, widths, sigma, lam)


def _mixture_samples(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    mixture = separable_mixture(
        MIXTURE_CLUSTERS,
        MIXTURE_DIMENSION,
        rank=MIXTURE_RANK,
        beta=MIXTURE_BETA,
        alpha=MIXTURE_ALPHA,
        seed=seed,
    )
    return mixture.sample(seed, n)


def _mixture(config: RunConfig) -> Blocks:
    samples = _mixture_samples(0, config.n or MIXTURE_N)
    return _clustered(*samples, config.p or MIXTURE_P, config.sigma or MIXTURE_SIGMA, config.lam)


def _small_mixture(seed: int) -> Blocks:
    return _clustered(*_mixture_samples(seed, ROTATED_N), MIXTURE_P, MIXTURE_SIGMA, None)


# --- claims ----------------------------------------------------------------------------------


def _of_problem(name: str, mutant: Mutant) -> Mutant:
    """The mutant of one problem among the others."""

    def apply(experiment: Certificates) -> Certificates:
        changed = {name: mutant.apply(experiment.problems[name])}
        return replace(experiment, problems=experiment.problems | changed)

    return Mutant(mutant.name, apply)


def _problem_claims(name: str, what: str, in_blocks: bool) -> tuple[Claim, ...]:
    """Every certificate of one closed form."""
    equation = "(4)" if in_blocks else "(5)"
    source = "Theorem 3.1" if in_blocks else "Corollary 3.2"

    def claim(kind, statement, measure, tolerance, mutants) -> Claim:
        def check(experiment: Certificates) -> Evidence:
            certified = experiment.problems[name]
            return measure_or_vacuous(certified, exact(certified), measure, tolerance)

        return Claim(
            f"certify/{name}/{kind}",
            f"{what}: {statement}",
            source if kind in ("stationary", "remainder") else "THEORY §8",
            check,
            tuple(_of_problem(name, mutant) for mutant in mutants),
        )

    return (
        claim(
            "stationary",
            f"{equation} is stationary.",
            measure_stationary,
            1e-8,
            (DOUBLE_SIGMA, HALF_LAMBDA) if in_blocks else (HALF_LAMBDA,),
        ),
        claim(
            "remainder",
            "∇L and ‖R‖, to the true minimizer, fall with σ as fast as F = Σ exp(−z_ij²/2).",
            measure_remainder,
            0.2,
            (HALF_LAMBDA,),
        ),
        claim(
            "spectrum",
            "all Hessian eigenvalues are those of frozen gates.",
            measure_spectrum,
            1e-8,
            (CURVATURE_OF_HALF,),
        ),
        claim(
            "flat-directions",
            "as many eigenvalues vanish as rotations within blocks move the weights.",
            measure_flat_directions,
            0.0,
            (FULL_ORTHOGONAL, ONE_MORE, NO_SYMMETRY) if in_blocks else (FULL_ORTHOGONAL, ONE_MORE),
        ),
        claim(
            "minimum",
            "the stationary point there is a strict minimum modulo symmetry.",
            measure_minimum,
            0.01,
            (SADDLE, UNPROJECTED) if in_blocks else (SHRUNK,),
        ),
        claim(
            "exists",
            "a true local minimizer exists within 1e-6.",
            measure_existence,
            1e-6,
            (HALF_LAMBDA,),
        ),
    )


def _claims_of_part(part: str, claims: Sequence[Claim]) -> tuple[Claim, ...]:
    """Claims about one part of the certificates, as claims about all of them."""

    def lift(claim: Claim) -> Claim:
        def lift_mutant(mutant: Mutant) -> Mutant:
            def apply(experiment: Certificates) -> Certificates:
                return replace(experiment, **{part: mutant.apply(getattr(experiment, part))})

            return Mutant(mutant.name, apply)

        return replace(
            claim,
            check=lambda experiment: claim.check(getattr(experiment, part)),
            mutants=tuple(map(lift_mutant, claim.mutants)),
        )

    return tuple(map(lift, claims))


def _always(measure: Callable[[Any], dict], tolerance: float) -> Callable[[Any], Evidence]:
    return lambda part: Evidence(tolerance=tolerance, **measure(part))


def _with_decay(trained: Trained) -> dict[str, Assumption]:
    return {"lambda": Assumption(trained.lam, "> 0", trained.lam > 0)}


OWN_CLAIMS = (
    *_problem_claims("simplex", "Simplex", in_blocks=False),
    *_problem_claims("mixture", "Mixture", in_blocks=True),
    *_problem_claims("faces", "Faces", in_blocks=False),
    *_claims_of_part(
        "rotations",
        (
            Claim(
                "certify/rotations",
                "Minimizing over O in (4) keeps or widens the gate margin of the even O.",
                "THEORY §8, open question",
                _always(measure_rotations, 0.01),
                (Mutant("random O", lambda r: replace(r, descends=False)),),
            ),
        ),
    ),
    *_claims_of_part(
        "pair",
        (
            Claim(
                "certify/positive-cosine",
                "(5) is stationary for two samples at cosine +.3, too.",
                "THEORY §8",
                _always(measure_pair, 1e-8),
                (Mutant("(5) with λ/2", lambda pair: replace(pair, predict=half_lambda)),),
                expected=Verdict.FAILS,
            ),
        ),
    ),
)
CLAIMS = (
    *OWN_CLAIMS,
    *_claims_of_part("dead_units", certify_dead_units.CLAIMS),
    *_claims_of_part("census", certify_census.CLAIMS),
    *_claims_of_part("reach", certify_reach.CLAIMS),
)
DATA_CLAIMS = (
    *_problem_claims("samples", "Most separable samples", in_blocks=False),
    *_problem_claims("clusters", "Clusters", in_blocks=True),
)
WEIGHTS_CLAIMS = _claims_of_part(
    "trained",
    (
        Claim(
            "certify/weights/minimum",
            "Solved from these weights, the net is at a strict minimum modulo symmetry.",
            "THEORY §8",
            lambda t: measure_or_vacuous(t, _with_decay(t), measure_trained_minimum, 0.0),
            (Mutant("first live unit shrunk to 1e-6", lambda t: replace(t, shrunk=True)),),
        ),
        Claim(
            "certify/weights/dead-units",
            "No direction pulls another unit by more than λ there.",
            "THEORY §8, (10)",
            lambda t: measure_or_vacuous(t, _with_decay(t), measure_trained_dead_units, 1e-6),
            (Mutant("first live unit taken away", lambda t: replace(t, shrunk=True)),),
        ),
    ),
)


def claims(config: RunConfig) -> tuple[Claim, ...]:
    """The claims of a run: on the default problems, on data, or on weights from a file."""
    if config.weights is not None:
        return WEIGHTS_CLAIMS
    return CLAIMS if config.data is None else DATA_CLAIMS


def results(experiment: Certificates) -> dict[str, np.ndarray]:
    """Arrays behind the figures; remainder and spectrum only where the theory applies."""
    arrays = {}
    for name, certified in experiment.problems.items():
        if all(assumption.met for assumption in exact(certified).values()):
            arrays |= {f"{name}/{key}": value for key, value in certified.remainder.items()}
            arrays |= {f"{name}/spectrum_{key}": value for key, value in certified.spectra.items()}
    parts = {}
    if experiment.census is not None:
        parts["census"] = certify_census.results(experiment.census)
    if experiment.reach is not None:
        parts["reach"] = certify_reach.results(experiment.reach)
    for name, part in parts.items():
        arrays |= {f"{name}/{key}": value for key, value in part.items()}
    return arrays


def settings(experiment: Certificates) -> dict:
    """What was certified, for the report."""
    margins = {
        f"z of {name}": predict_on(certified.blocks).margin
        for name, certified in experiment.problems.items()
    }
    if experiment.trained is not None:
        n, d = experiment.trained.x.shape
        margins |= {"n": n, "d": d, "p": experiment.trained.w1.shape[1]}
    return margins | {"data": experiment.note}
