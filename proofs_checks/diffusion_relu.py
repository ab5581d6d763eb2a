"""Sampling with ReLU nets and with exact denoisers: what memorizing and generalizing nets give."""

from dataclasses import replace

import numpy as np

from dae_theory.checks import InputError
from dae_theory.data.dataset import Dataset, centred
from dae_theory.data.images import faces
from dae_theory.data.mixtures import separable_mixture
from dae_theory.diffusion.denoisers import empirical_denoiser
from proofs_checks.claims import Claim, Mutant, Verdict
from proofs_checks.config import RunConfig
from proofs_checks.diffusion_exact_evidence import (
    ExactSampling,
    euler,
    heun,
    measure_last_level,
    measure_order,
    measure_perturbed,
)
from proofs_checks.diffusion_exact_evidence import measure_copies as measure_empirical_copies
from proofs_checks.diffusion_relu_evidence import (
    DIRECTED,
    ReluSampling,
    along,
    centred_cosines,
    check,
    measure_calibrated,
    measure_competition,
    measure_copies,
    measure_floor,
    measure_generalizes,
    measure_homogeneous,
    measure_lengths,
    measure_no_copies,
    measure_rays,
    measure_stored_error,
    memorized,
    outnumbered,
    ratios,
    separated,
    stored_denoiser,
)
from proofs_checks.diffusion_relu_mutants import (
    COPIED,
    GENERALIZING_NETS,
    MEMORIZING_NETS,
    OPPOSITE,
    biased_family,
    empirical_family,
    errors_of,
    floor_from,
    held_out,
    late_corrector,
    wiener,
    with_exact,
    with_formula,
    with_nets,
    wrong_sign,
    wrong_sign_empirical,
)
from proofs_checks.diffusion_relu_nets import (
    BATCH,
    SAMPLES,
    Family,
    Problem,
    closed_form,
    error_table,
    sampled,
    train_level_sets,
    train_multi,
)
from proofs_checks.memorize import choose_samples
from proofs_checks.nets import Progress

DEFAULT_N, DEFAULT_P = 5, 20  # of the images
N_CLUSTERS, DIMENSION, RANK, BETA, ALPHA = 3, 32, 6, -0.5, 1.0
FEW, MANY, HELD_OUT, WIDTH, POOL = 5, 2000, 1000, 64, 100


def build(
    config: RunConfig, dataset: Dataset | None, needs_nets: bool, progress: Progress
) -> ReluSampling:
    """The experiment a config describes; of its options n, p and the seeds matter.

    ``dataset`` holds the images to store, by default faces. Everything about few against many
    samples is on a mixture, whose exact denoiser is known.

    Raises:
      InputError: when all samples are equal.
    """
    dataset = centred(faces()) if dataset is None else dataset
    chosen, note = choose_samples(dataset.x, config.n or DEFAULT_N)
    x_ND = dataset.x[chosen]
    rest = np.delete(dataset.x, chosen, axis=0)
    if not np.any(x_ND):
        raise InputError("data: all samples are equal, none can be stored; give others")
    mixture = separable_mixture(N_CLUSTERS, DIMENSION, rank=RANK, beta=BETA, alpha=ALPHA)
    many_ND = np.random.default_rng(0).permutation(mixture.sample(0, MANY)[0])
    fresh_TD = np.random.default_rng(1).permutation(mixture.sample(1, HELD_OUT)[0])
    few_ND = many_ND[choose_samples(many_ND[:POOL], FEW)[0]]
    scale = float(np.sqrt(1 + ALPHA**2))
    problems = {
        "images": Problem(
            x_ND,
            rest if len(rest) else -x_ND,
            float(np.sqrt(np.mean(np.sum(x_ND**2, axis=1)))),
            config.p or DEFAULT_P,
        ),
        "few": Problem(few_ND, fresh_TD, scale, WIDTH),
        "many": Problem(many_ND, fresh_TD, scale, WIDTH),
    }
    seeds = config.seed_list
    families = {f"{name}/closed": closed_form(problems[name], seeds) for name in ("images", "few")}
    if needs_nets:
        families |= trained_families(problems, seeds, progress)
    drawn = {
        name: sampled(family, problems[name.split("/")[0]], seeds)
        for name, family in families.items()
    }
    experiment = ReluSampling(
        seeds=seeds,
        problems=problems,
        mixture=mixture,
        families=families,
        samples={name: both[0] for name, both in drawn.items()},
        doubled={name: both[1] for name, both in drawn.items()},
        errors={},
        exact=ExactSampling(seeds, few_ND),
        image_shape=dataset.image_shape,
        offset=dataset.offset,
        note=note,
    )
    if not needs_nets:
        return experiment
    table = error_table(problems, mixture, families, experiment.samples)
    return replace(experiment, errors=table)


def trained_families(
    problems: dict[str, Problem], seeds: tuple[int, ...], progress: Progress
) -> dict[str, Family]:
    """Nets of all kinds from random starts; preconditioned ones need as many units as features."""
    what, total = "training nets to sample from", 7
    few_set, many_set = train_level_sets([problems["few"], problems["many"]], seeds, BATCH)
    progress(what, 1, total)
    (image_set,) = train_level_sets([problems["images"]], seeds, None)
    progress(what, 2, total)
    families = {"few/set": few_set, "many/set": many_set, "images/set": image_set}
    kinds = [("images/plain", False)]
    kinds += [(f"{name}/plain", False) for name in ("few", "many")]
    kinds += [(f"{name}/preconditioned", True) for name in ("few", "many")]
    for done, (name, preconditioned) in enumerate(kinds):
        families[name] = train_multi(problems[name.split("/")[0]], seeds, preconditioned)
        progress(what, 3 + done, total)
    return families


def _copies(kind: str, name: str, trained: bool) -> Claim:
    """The paper's sentence about sampling, for one kind of memorizing nets."""
    problem = name.split("/")[0]
    assume = [lambda experiment: separated(experiment, problem)]
    mutants = [OPPOSITE, Mutant("held-out data for the samples", held_out(name))]
    if trained:
        assume.append(lambda experiment: memorized(experiment, name))
    return Claim(
        f"diffusion/copies-{kind}",
        {
            "closed": "Sampling with the weights (5), one net a noise level, gives training "
            "samples.",
            "set": "Sampling with trained memorizing nets, one a noise level, gives training "
            "samples.",
            "plain": "Sampling with one memorizing net for all noise levels gives training "
            "samples.",
            "preconditioned": "It does so with a net preconditioned as in EDM.",
        }[kind],
        "Corollary 3.2, sampling",
        check(measure_copies(name), 0.05, *assume),
        tuple(mutants),
        expected=Verdict.FAILS,
        uses_nets=trained,
    )


def _separated(*problems: str):
    return [lambda experiment, name=name: separated(experiment, name) for name in problems]


CLAIMS = (
    Claim(
        "diffusion/euler-order",
        "The probability flow by Euler's method errs like 1/steps.",
        "THEORY §1, score",
        lambda experiment: check(measure_order("euler", 1), 0.3)(experiment.exact),
        (
            Mutant("Heun's method", with_exact(euler=heun)),
            Mutant(
                "σ 5% too high",
                with_exact(euler=lambda d, y, s: euler(lambda y, s: d(y, 1.05 * s), y, s)),
            ),
        ),
    ),
    Claim(
        "diffusion/heun-order",
        "The probability flow by Heun's method errs like 1/steps².",
        "THEORY §1, score",
        lambda experiment: check(measure_order("heun", 2), 0.3)(experiment.exact),
        (
            Mutant("Euler's method", with_exact(heun=euler)),
            Mutant("second slope at the first level", with_exact(heun=late_corrector)),
        ),
    ),
    Claim(
        "diffusion/empirical-copies",
        "Sampling with f_emp gives training samples, by few steps or many.",
        "THEORY §1, f_emp",
        lambda experiment: check(measure_empirical_copies, 0.05)(experiment.exact),
        (
            Mutant("score of opposite sign", with_exact(empirical=wrong_sign_empirical)),
            Mutant("one Gaussian for f_emp", with_exact(empirical=wiener)),
            Mutant("the net (5) for f_emp", with_exact(empirical=stored_denoiser)),
        ),
    ),
    Claim(
        "diffusion/empirical-distance",
        "Stopped at noise level σ, its samples are at a distance ∝ σ from training samples.",
        "THEORY §1, f_emp",
        lambda experiment: check(measure_last_level, 0.1)(experiment.exact),
        (
            Mutant("one Gaussian for f_emp", with_exact(empirical=wiener)),
            Mutant("the net (5) for f_emp", with_exact(empirical=stored_denoiser)),
        ),
    ),
    Claim(
        "diffusion/empirical-perturbed",
        "An error δ of the denoiser moves its samples ∝ δ off the training samples.",
        "THEORY §1, f_emp",
        lambda experiment: check(measure_perturbed, 0.1)(experiment.exact),
        (
            Mutant("one Gaussian for f_emp", with_exact(empirical=wiener)),
            Mutant("the net (5) for f_emp", with_exact(empirical=stored_denoiser)),
        ),
    ),
    _copies("closed", "images/closed", trained=False),
    _copies("set", "images/set", trained=True),
    _copies("plain", "images/plain", trained=True),
    _copies("preconditioned", "few/preconditioned", trained=True),
    Claim(
        "diffusion/homogeneous",
        "Nets without biases cannot fix a length: twice the noise samples twice the image.",
        "THEORY §1, [derived]",
        check(measure_homogeneous, 1e-5),
        (
            Mutant("f_emp for the nets", with_nets("few/set", empirical_family)),
            Mutant("nets with a small bias", with_nets("few/set", biased_family)),
        ),
        uses_nets=True,
    ),
    Claim(
        "diffusion/rays",
        "What memorizing nets fix, unless preconditioned, is the direction: most samples are "
        "multiples of a training image.",
        "Corollary 3.2, [derived]",
        check(
            measure_rays,
            0.5,
            *_separated("images", "few"),
            *[lambda experiment, name=name: memorized(experiment, name) for name in DIRECTED],
        ),
        (
            GENERALIZING_NETS,
            OPPOSITE,
            Mutant("held-out data for the samples", held_out(*DIRECTED)),
            Mutant("score of opposite sign", wrong_sign(*DIRECTED)),
        ),
        uses_nets=True,
    ),
    Claim(
        "diffusion/lengths",
        "The net that stores x and −x samples ξx, ξ a standard normal number.",
        "Corollary 3.2, [derived]",
        check(measure_lengths, 1.95),
        (
            Mutant("f_emp for the net", with_formula(stored=empirical_denoiser)),
            Mutant("images 10% longer", with_formula(stored=lambda x: stored_denoiser(1.1 * x))),
        ),
    ),
    Claim(
        "diffusion/between",
        "The share of samples between two images at cosine c < 0 falls like σ^(2|c|).",
        "Corollary 3.2, [derived]",
        check(measure_competition, 0.05),
        (
            Mutant("σ^|c|", with_formula(exponent=abs)),
            Mutant("σ^(1−|c|)", with_formula(exponent=lambda c: 1 - abs(c))),
            Mutant("f_emp for the net", with_formula(stored=empirical_denoiser)),
        ),
    ),
    Claim(
        "diffusion/no-copies",
        "Sampling with the same nets trained on n ≫ p samples gives no training samples.",
        "Corollary 3.3",
        check(measure_no_copies, 0.05, outnumbered),
        (MEMORIZING_NETS, COPIED),
        uses_nets=True,
    ),
    Claim(
        "diffusion/no-copies-calibrated",
        "Nor by a threshold on the gap ratio that 1% of held-out samples pass.",
        "Corollary 3.3",
        check(measure_calibrated, 0.02, outnumbered),
        (MEMORIZING_NETS, COPIED),
        uses_nets=True,
    ),
    Claim(
        "diffusion/held-out-error",
        "These nets denoise held-out samples as well as training samples.",
        "Corollary 3.3",
        check(measure_generalizes, 0.25, outnumbered),
        (MEMORIZING_NETS,),
        uses_nets=True,
    ),
    Claim(
        "diffusion/stored-error",
        "The error of (5) on its samples is (1−m)²‖x‖² + m²σ², not the 0 of f_emp.",
        "Corollary 3.2, (5)",
        check(measure_stored_error, 0.1, *_separated("few")),
        (
            Mutant("f_emp for the net", errors_of("few/closed/train", "few/empirical/train")),
            Mutant("nets of many samples", errors_of("few/closed/train", "many/set/train")),
            Mutant("one Gaussian", errors_of("few/closed/train", "few/gaussian/train")),
        ),
        uses_nets=True,
    ),
    Claim(
        "diffusion/floor",
        "On held-out samples no denoiser is better than the exact one of the mixture.",
        "THEORY §1, f_gt",
        check(measure_floor, 3.0),
        (
            Mutant("called with 2 σ", floor_from(2.0, 1.0)),
            Mutant("means 20% longer", floor_from(1.0, 1.2)),
        ),
        uses_nets=True,
    ),
)


def results(experiment: ReluSampling) -> dict[str, np.ndarray]:
    """Arrays behind the figures.

    ``problem/x`` and ``problem/levels``; for each kind ``.../samples`` (S, M, D), ``.../ratios``,
    ``.../centred_cosines``, ``.../cosines`` and ``.../lengths`` (S, M); and for each denoiser and
    kind of points ``.../mean`` and ``.../standard_error`` (S, L), squared data units.
    """
    arrays = {}
    for name, problem in experiment.problems.items():
        arrays |= {f"{name}/x": problem.x, f"{name}/levels": problem.levels}
    for name, samples in experiment.samples.items():
        cosines, lengths = along(experiment, name)
        arrays |= {
            f"{name}/samples": samples,
            f"{name}/ratios": ratios(experiment, name),
            f"{name}/centred_cosines": centred_cosines(experiment, name),
            f"{name}/cosines": cosines,
            f"{name}/lengths": lengths,
        }
    for name, found in experiment.errors.items():
        arrays |= {f"{name}/mean": found.mean, f"{name}/standard_error": found.standard_error}
    if experiment.image_shape is not None:
        arrays["image_shape"] = np.array(experiment.image_shape)
    if experiment.offset is not None:
        arrays["offset"] = experiment.offset
    return arrays


def settings(experiment: ReluSampling) -> dict:
    """What was checked, for the report."""
    images, few, many = (experiment.problems[name] for name in ("images", "few", "many"))
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
        "seeds": len(experiment.seeds),
        "data": experiment.note,
    }
