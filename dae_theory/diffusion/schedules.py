"""Noise levels of sampling and training, and EDM's preconditioning.

Variance-exploding throughout: y = x + σ ε; σ has the units of the data.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from dae_theory.checks import InputError, check_count


def check_noise_range(sigma_max: float, sigma_min: float) -> None:
    """Raise InputError unless 0 < σ_min < σ_max < ∞."""
    if not (sigma_min > 0 and np.isfinite(sigma_max) and sigma_max > sigma_min):
        raise InputError(
            "sigma_max, sigma_min: noise levels must be finite with sigma_max > sigma_min > 0, "
            f"got {sigma_max} and {sigma_min}"
        )


def geometric_schedule(
    sigma_max: float, sigma_min: float, steps: int
) -> Float[np.ndarray, " steps+1"]:
    """Noise levels falling by a constant factor from σ_max to σ_min, and then 0.

    They are ``steps`` positive levels and the last 0, ``steps + 1`` in all, for as many steps as
    the name says (one step: σ_max and 0).

    Raises:
      InputError: unless 0 < σ_min < σ_max < ∞ and steps ≥ 1.
    """
    check_noise_range(sigma_max, sigma_min)
    check_count(steps, "steps")
    return np.append(np.geomspace(sigma_max, sigma_min, steps), 0.0)


def edm_schedule(
    sigma_max: float, sigma_min: float, steps: int, rho: float = 7.0
) -> Float[np.ndarray, " steps+1"]:
    """Noise levels from σ_max to σ_min equally spaced in σ^(1/ρ), and then 0 (EDM, eq. 5).

    ``steps + 1`` values, as in `geometric_schedule`, which is the limit ρ → ∞; a smaller ρ puts
    fewer of them at low noise.

    Raises:
      InputError: unless 0 < σ_min < σ_max < ∞, steps ≥ 1 and 0 < ρ < ∞.
    """
    check_noise_range(sigma_max, sigma_min)
    check_count(steps, "steps")
    if not (np.isfinite(rho) and rho > 0):
        raise InputError(f"rho: must be finite and > 0, got {rho}")
    roots_T = np.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), steps)
    return np.append(roots_T**rho, 0.0)


def log_uniform_sigmas(
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    sigma_max: float,
    sigma_min: float,
    dtype: jnp.dtype = float,
) -> Float[Array, "..."]:
    """Noise levels with log σ uniform between log σ_min and log σ_max.

    Raises:
      InputError: unless 0 < σ_min < σ_max < ∞.
    """
    check_noise_range(sigma_max, sigma_min)
    logs = jax.random.uniform(key, shape, dtype, minval=np.log(sigma_min), maxval=np.log(sigma_max))
    return jnp.exp(logs)


def log_normal_sigmas(
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    log_mean: float,
    log_std: float,
    dtype: jnp.dtype = float,
) -> Float[Array, "..."]:
    """Noise levels with log σ ~ N(log_mean, log_std²).

    EDM trains with −1.2 and 1.2 on data of standard deviation ½; other data add the logarithm of
    twice theirs to the mean.

    Raises:
      InputError: unless both are finite and log_std > 0.
    """
    if not (np.isfinite(log_mean) and np.isfinite(log_std) and log_std > 0):
        raise InputError(
            f"log_mean, log_std: must be finite with log_std > 0, got {log_mean} and {log_std}"
        )
    return jnp.exp(log_mean + log_std * jax.random.normal(key, shape, dtype))


def edm_coefficients(
    sigma: Float[Array, "..."], sigma_data: float
) -> tuple[Float[Array, "..."], Float[Array, "..."], Float[Array, "..."]]:
    """c_skip, c_out and c_in of EDM's preconditioning D(y, σ) = c_skip y + c_out F(c_in y) (EDM,
    table 1), for data of standard deviation ``sigma_data``; each of the shape of σ."""
    total = jnp.sqrt(sigma**2 + sigma_data**2)
    return (sigma_data / total) ** 2, sigma * sigma_data / total, 1 / total
