"""Changes to a sampling experiment on which its claims must fail."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dae_theory.diffusion.denoisers import empirical_denoiser, gaussian_denoiser, mixture_denoiser
from proofs_checks.claims import Mutant
from proofs_checks.diffusion_relu_evidence import GENERALIZING, ReluSampling
from proofs_checks.diffusion_relu_nets import Family, same_for_all, sampled

Change = Callable[[ReluSampling], ReluSampling]


def with_samples(experiment: ReluSampling, changed: dict[str, np.ndarray]) -> ReluSampling:
    """Other samples under the same names."""
    return replace(experiment, samples=experiment.samples | changed)


def held_out(*names: str) -> Change:
    """Samples replaced by held-out data, the same for every seed."""

    def apply(experiment: ReluSampling) -> ReluSampling:
        def data(name):
            x_TD = experiment.problems[name.split("/")[0]].held_out
            return np.stack([x_TD[:200]] * len(experiment.seeds))

        return with_samples(experiment, {name: data(name) for name in names})

    return apply


def opposite_references(experiment: ReluSampling) -> ReluSampling:
    """The reference set is the training images reflected in the origin."""
    return replace(experiment, references={k: -p.x for k, p in experiment.problems.items()})


def wrong_sign(*names: str) -> Change:
    """Sampled with the score's sign exchanged: D − y for y − D."""

    def apply(experiment: ReluSampling) -> ReluSampling:
        changed = {}
        for name in names:
            problem, family = experiment.problems[name.split("/")[0]], experiment.families[name]
            flipped = Family(lambda params, make=family.make: _flipped(make(params)), family.params)
            changed[name], _ = sampled(flipped, problem, experiment.seeds)
        return with_samples(experiment, changed)

    return apply


def _flipped(denoiser):
    return lambda y, sigma: 2 * y - denoiser(y, sigma)


def generalizing_nets(experiment: ReluSampling) -> ReluSampling:
    """In place of the memorizing nets' samples, those of the same nets on many samples."""
    kinds = ("set", "plain", "preconditioned")
    changed = {f"few/{kind}": experiment.samples[f"many/{kind}"] for kind in kinds}
    return with_samples(experiment, changed)


def memorizing_nets(experiment: ReluSampling) -> ReluSampling:
    """The same nets on few samples in place of the generalizing ones, with their errors."""
    few = {f"many/{kind}": experiment.samples[f"few/{kind}"] for kind in _kinds()}
    errors = {
        f"many/{kind}/{on}": experiment.errors[f"few/{kind}/{on}"]
        for kind, on in itertools.product(_kinds(), ("train", "test"))
    }
    changed = replace(experiment, errors=experiment.errors | errors)
    return replace(with_samples(changed, few), references={"many": experiment.problems["few"].x})


def _kinds() -> list[str]:
    return [name.split("/")[1] for name in GENERALIZING]


def copied_training(experiment: ReluSampling) -> ReluSampling:
    """Samples that are training samples with a little noise."""
    problem, rng = experiment.problems["many"], np.random.default_rng(0)
    noise = rng.standard_normal((len(experiment.seeds), 200, problem.x.shape[1]))
    copies = problem.x[:200] + 0.02 * problem.scale / problem.x.shape[1] ** 0.5 * noise
    return with_samples(experiment, dict.fromkeys(GENERALIZING, copies))


def with_nets(name: str, make: Callable[[ReluSampling, str], Family]) -> Change:
    """Other denoisers under the name of some nets."""

    def apply(experiment: ReluSampling) -> ReluSampling:
        samples, doubled = sampled(
            make(experiment, name), experiment.problems[name.split("/")[0]], experiment.seeds
        )
        changed = with_samples(experiment, {name: samples})
        return replace(changed, doubled=experiment.doubled | {name: doubled})

    return apply


def empirical_family(experiment: ReluSampling, name: str) -> Family:
    """f_emp of the problem's training samples."""
    x_ND = np.float32(experiment.problems[name.split("/")[0]].x)
    return same_for_all(empirical_denoiser, x_ND, experiment.seeds)


def biased_family(experiment: ReluSampling, name: str) -> Family:
    """The nets with a decoder bias of 1% of the rms norm."""
    problem, family = experiment.problems[name.split("/")[0]], experiment.families[name]
    bias = 0.01 * problem.scale / problem.x.shape[1] ** 0.5
    return Family(lambda params: _shifted(family.make(params), bias), family.params)


def _shifted(denoiser, bias):
    return lambda y, sigma: denoiser(y, sigma) + bias


def floor_from(scale: float, mean_factor: float) -> Change:
    """The exact denoiser called with another σ, or for a mixture with other means."""

    def apply(experiment: ReluSampling) -> ReluSampling:
        mixture, problem = experiment.mixture, experiment.problems["many"]
        exact = mixture_denoiser(mean_factor * mixture.means, mixture.covs, mixture.priors)
        family = same_for_all(lambda _: lambda y, s: exact(y, scale * s), jnp.zeros(1), (0,))
        found = family.errors(problem.held_out, problem.levels)
        return replace(experiment, errors=experiment.errors | {"many/exact/test": found})

    return apply


def errors_of(target: str, source: str) -> Change:
    """The denoising errors of one denoiser under the name of another."""

    def apply(experiment: ReluSampling) -> ReluSampling:
        found = experiment.errors[source]
        return replace(experiment, errors=experiment.errors | {target: found})

    return apply


def with_formula(**fields: Any) -> Change:
    """Another formula or denoiser under test."""
    return lambda experiment: replace(experiment, **fields)


def with_exact(**fields: Any) -> Change:
    """Another sampler or denoiser in the experiments with exact denoisers."""
    return lambda experiment: replace(experiment, exact=replace(experiment.exact, **fields))


def wiener(x_ND):
    """The posterior mean under one Gaussian of the samples' moments."""
    x_ND = np.asarray(x_ND)
    return gaussian_denoiser(x_ND.mean(axis=0), np.cov(x_ND.T, bias=True))


def wrong_sign_empirical(x_ND):
    """f_emp with the score's sign exchanged."""
    return _flipped(empirical_denoiser(x_ND))


def late_corrector(denoiser, start_ND, sigmas_T):
    """Heun's method with the second slope divided by the level it came from."""

    def step(y_ND, levels):
        sigma, following = levels
        here_ND = (y_ND - denoiser(y_ND, sigma)) / sigma
        euler_ND = y_ND + (following - sigma) * here_ND
        there_ND = (euler_ND - denoiser(euler_ND, following)) / sigma
        return y_ND + (following - sigma) * (here_ND + there_ND) / 2, None

    sigmas_T = jnp.asarray(sigmas_T)
    return jax.lax.scan(step, start_ND, (sigmas_T[:-1], sigmas_T[1:]))[0]


GENERALIZING_NETS = Mutant("generalizing nets for memorizing ones", generalizing_nets)
MEMORIZING_NETS = Mutant("memorizing nets for generalizing ones", memorizing_nets)
COPIED = Mutant("training samples with a little noise", copied_training)
OPPOSITE = Mutant("the training images' negatives as reference", opposite_references)
