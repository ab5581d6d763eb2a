"""Training of the ladder's nets: all seeds of a rung at once, each on images of its own."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from dae_theory.deep.ladder.nets import CONDITIONED, LadderNet, NetConfig, init_params
from dae_theory.diffusion.schedules import log_uniform_sigmas

SIGMA_RANGE = 3.0  # nets conditioned on the noise level see σ/3 to 3σ


@dataclass(frozen=True)
class Schedule:
    """How nets are trained: Adam whose rate falls to 0 along a cosine, fresh noise in each step.

    Attributes:
      sigma: noise level.
      steps, batch_size, learning_rate: of Adam.
    """

    sigma: float = 0.3
    steps: int = 3000
    batch_size: int = 64
    learning_rate: float = 2e-3


def _noise_levels(key: PRNGKeyArray, net: NetConfig, schedule: Schedule) -> Array:
    shape = (schedule.batch_size,)
    if net.change not in CONDITIONED:
        return jnp.full(shape, schedule.sigma, jnp.float32)
    high, low = schedule.sigma * SIGMA_RANGE, schedule.sigma / SIGMA_RANGE
    return log_uniform_sigmas(key, shape, high, low, jnp.float32)


def _train_one(key: PRNGKeyArray, x_ND: Array, count: Array, net: NetConfig, how: Schedule) -> dict:
    """Parameters of one net, trained on the first ``count`` rows."""
    init_key, run_key = jax.random.split(key)
    optimizer = optax.adam(optax.cosine_decay_schedule(how.learning_rate, max(how.steps, 1)))
    module = LadderNet(net)

    def loss(params, key):
        which_key, sigma_key, noise_key = jax.random.split(key, 3)
        chosen_BD = x_ND[jax.random.randint(which_key, (how.batch_size,), 0, count)]
        sigma_B = _noise_levels(sigma_key, net, how)
        noise_BD = jax.random.normal(noise_key, chosen_BD.shape, chosen_BD.dtype)
        denoised_BD = module.apply(
            {"params": params}, chosen_BD + sigma_B[:, None] * noise_BD, sigma_B
        )
        # Weighted as in EDM, so that no level of a conditioned net outweighs the others.
        error_B = jnp.sum((denoised_BD - chosen_BD) ** 2, axis=1)
        return jnp.mean(error_B * (how.sigma / sigma_B) ** 2)

    def step(state, number):
        params, moments = state
        gradient = jax.grad(loss)(params, jax.random.fold_in(run_key, number))
        updates, moments = optimizer.update(gradient, moments)
        return (optax.apply_updates(params, updates), moments), None

    params = init_params(init_key, net)
    start = (params, optimizer.init(params))
    (params, _), _ = jax.lax.scan(step, start, jnp.arange(how.steps))
    return params


@functools.partial(jax.jit, static_argnames=("net", "how"))
def train_nets(
    seeds_S: Int[Array, " S"],
    x_SND: Float[Array, "S N D"],
    count: int | Int[Array, ""],
    net: NetConfig,
    how: Schedule,
) -> dict:
    """Parameters of a net for each seed, trained on its own images; with no steps, untrained ones.

    Rows beyond ``count`` are padding, so that one compilation serves all numbers of images.
    """
    return jax.vmap(lambda seed, x_ND: _train_one(jax.random.key(seed), x_ND, count, net, how))(
        seeds_S, x_SND
    )
