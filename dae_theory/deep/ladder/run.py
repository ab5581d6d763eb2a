"""One rung: its nets trained, or its exact denoiser, and what is measured of each seed."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dae_theory.deep.ladder.data import Drawn, draw
from dae_theory.deep.ladder.measure import (
    Points,
    copied_share,
    jacobian_quantities,
    layer_quantities,
    neighbourhood_operators,
    operator_quantities,
)
from dae_theory.deep.ladder.nets import SIDE, NetConfig, denoise, hidden_layers, jacobian
from dae_theory.deep.ladder.rungs import (
    EXACT,
    F_EMP,
    HOMOGENEOUS,
    LOCAL_PCA,
    LOCAL_PCA_MOST,
    LOCAL_PCA_SHARE,
    MOST,
    LadderConfig,
    Rung,
)
from dae_theory.deep.ladder.training import train_nets
from dae_theory.diffusion.denoisers import (
    Denoiser,
    empirical_denoiser,
    homogeneous_empirical_denoiser,
    local_pca_denoiser,
)

PADDED = MOST  # training images are padded to so many
KINDS = ("training", "held_out")
LAYER_IMAGES, LAYER_DRAWS = 256, 4


@jax.enable_x64(False)
def run_rung(rung: Rung, config: LadderConfig) -> list[dict[str, float]]:
    """What is measured, a row for each seed: 'training/trace', 'held_out/gain', ….

    Raises:
      InputError: when the images cannot be had.
    """
    drawn_S = [draw(rung.data, rung.n, config.points, seed) for seed in config.seed_list]
    if rung.kind in EXACT:
        return [
            _measured(_exact_points(rung, drawn, config, seed), drawn, rung, config, seed)
            for drawn, seed in zip(drawn_S, config.seed_list, strict=True)
        ]
    params = trained(rung, drawn_S, config)
    net = rung.net()
    rows = []
    for index, (drawn, seed) in enumerate(zip(drawn_S, config.seed_list, strict=True)):
        one = jax.tree.map(lambda array, i=index: array[i], params)
        points = {
            kind: Points(x, y, *map(np.asarray, _net_outputs(net, one, y, config.sigma)))
            for kind, (x, y) in _noisy_images(drawn, config, seed).items()
        }
        rows.append(
            _measured(points, drawn, rung, config, seed)
            | _layers(net, one, drawn, config.sigma, seed)
        )
    return rows


def trained(rung: Rung, drawn_S: Sequence[Drawn], config: LadderConfig) -> dict:
    """Parameters of the nets of all seeds."""
    padded_SND = np.zeros((len(drawn_S), max(PADDED, rung.n), SIDE**2), np.float32)
    for padded_ND, drawn in zip(padded_SND, drawn_S, strict=True):
        padded_ND[: rung.n] = drawn.training
    seeds_S = jnp.asarray(config.seed_list)
    return train_nets(
        seeds_S, jnp.asarray(padded_SND), jnp.int32(rung.n), rung.net(), config.schedule(rung)
    )


@functools.partial(jax.jit, static_argnames="net")
def _net_outputs(net: NetConfig, params: dict, y_ND: Array, sigma: float) -> tuple[Array, Array]:
    """Denoised images (N, D) and Jacobians (N, D, D)."""
    denoised_ND = denoise(net, params, y_ND, sigma)
    return denoised_ND, jax.lax.map(lambda y_D: jacobian(net, params, y_D, sigma), y_ND)


def _noisy_images(
    drawn: Drawn, config: LadderConfig, seed: int
) -> dict[str, tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "N D"]]]:
    """Clean and noisy images of each of KINDS, equal for all denoisers of a seed."""
    rng = np.random.default_rng((seed, 1))
    images = {}
    for kind in KINDS:
        x_ND = getattr(drawn, kind)[: config.points]
        noise_ND = rng.standard_normal(x_ND.shape)
        images[kind] = x_ND, np.float32(x_ND + config.sigma * noise_ND)
    return images


def _exact_points(rung: Rung, drawn: Drawn, config: LadderConfig, seed: int) -> dict[str, Points]:
    """At the same points, of the exact denoiser of the training images, in float64."""
    points = {}
    with jax.enable_x64(True):
        training_ND = jnp.asarray(drawn.training, jnp.float64)
        for kind, (x_ND, y_ND) in _noisy_images(drawn, config, seed).items():
            y_ND = jnp.asarray(y_ND, jnp.float64)
            outputs = _exact_outputs(rung.kind, training_ND, y_ND, config.sigma)
            points[kind] = Points(x_ND, np.asarray(y_ND), *map(np.asarray, outputs))
    return points


@functools.partial(jax.jit, static_argnames="kind")
def _exact_outputs(kind: str, x_ND: Array, y_MD: Array, sigma: float) -> tuple[Array, Array]:
    """Denoised images (M, D) and Jacobians (M, D, D)."""
    denoiser = exact_denoiser(kind, x_ND)

    def at(y_D):
        return denoiser(y_D[None], sigma)[0]

    return jax.lax.map(at, y_MD), jax.lax.map(jax.jacrev(at), y_MD)


def exact_denoiser(kind: str, x_ND: Float[Array, "N D"]) -> Denoiser:
    """One of EXACT, of the training images."""
    if kind == F_EMP:
        return empirical_denoiser(x_ND)
    if kind == HOMOGENEOUS:
        return homogeneous_empirical_denoiser(x_ND)
    if kind == LOCAL_PCA:
        neighbours = min(max(len(x_ND) // LOCAL_PCA_SHARE, 2), LOCAL_PCA_MOST)
        return local_pca_denoiser(x_ND, neighbours, min(neighbours - 1, x_ND.shape[1]))
    return stored_denoiser(x_ND)


def stored_denoiser(x_ND: Float[Array, "N D"]) -> Denoiser:
    """m x̂x̂ᵀy with (5) at λ = 0, of the training image x in whose direction y is longest: the net
    of (5) where no other gate is open."""
    x_ND = jnp.asarray(x_ND)
    square_N = jnp.sum(x_ND**2, axis=1)

    def denoiser(y_MD: Array, sigma: float) -> Array:
        nearest_M = jnp.argmax(y_MD @ x_ND.T / jnp.sqrt(square_N), axis=1)
        along_M = jnp.sum(y_MD * x_ND[nearest_M], axis=1)
        return (along_M / (square_N[nearest_M] + sigma**2))[:, None] * x_ND[nearest_M]

    return denoiser


def _measured(
    points: dict[str, Points], drawn: Drawn, rung: Rung, config: LadderConfig, seed: int
) -> dict[str, float]:
    found = {}
    for kind in KINDS:
        operators = _operators(rung.data, rung.n, config.points, seed, config.sigma, kind)
        of_kind = (
            jacobian_quantities(points[kind], config.sigma)
            | {"copied": copied_share(points[kind].denoised, drawn.training)}
            | operator_quantities(points[kind].matrix, operators)
        )
        found |= {f"{kind}/{name}": value for name, value in of_kind.items()}
    return found


@functools.lru_cache(maxsize=10)
def _operators(
    data: str, n: int, points: int, seed: int, sigma: float, kind: str
) -> dict[str, Float[np.ndarray, "N D D"]]:
    """`neighbourhood_operators`, kept for the other rungs of the same images."""
    drawn = draw(data, n, points, seed)
    labels_N = getattr(drawn, f"{kind}_labels")
    clean_ND = getattr(drawn, kind)[:points]
    return neighbourhood_operators(
        clean_ND,
        None if labels_N is None else labels_N[:points],
        drawn.training,
        drawn.training_labels,
        sigma,
    )


@functools.partial(jax.jit, static_argnames="net")
def _hidden(net: NetConfig, params: dict, y_KMD: Array, sigma: float) -> dict[str, Array]:
    return jax.vmap(lambda y_MD: hidden_layers(net, params, y_MD, sigma))(y_KMD)


def _layers(
    net: NetConfig, params: dict, drawn: Drawn, sigma: float, seed: int
) -> dict[str, float]:
    """`layer_quantities` of each hidden layer, at up to LAYER_IMAGES training images."""
    x_MD = drawn.training[:LAYER_IMAGES]
    noise_KMD = np.random.default_rng((seed, 2)).standard_normal((LAYER_DRAWS, *x_MD.shape))
    hidden = _hidden(net, params, np.float32(x_MD + sigma * noise_KMD), sigma)
    return {
        f"{layer}/{name}": value
        for layer, hidden_KMP in hidden.items()
        for name, value in layer_quantities(np.asarray(hidden_KMP)).items()
    }
