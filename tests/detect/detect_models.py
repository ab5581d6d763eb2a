"""Models whose scores are known in closed form, for the tests of this room."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from dae_theory.detect.model import DetectorModel, of_function
from dae_theory.diffusion.denoisers import Denoiser

SIGMA_MAX, SIGMA_MIN = 5.0, 0.05
RANGE = (-1.0, 1.0)
LAYER = "noisy image"


def exact_model(
    without: Denoiser, with_caption: Denoiser | None = None, size: int = 4
) -> DetectorModel:
    """A denoiser as a model; a caption other than '' asks a second one. Its layer is its input."""

    def function(params, y_BD, sigma, tokens_BL):
        if with_caption is None:
            return without(y_BD, sigma)
        return jnp.where(tokens_BL == 1, with_caption(y_BD, sigma), without(y_BD, sigma))

    def sample(key, count, captions=None):
        rng = np.random.default_rng(0)
        spread_N1 = np.array([0.0 if c == "copied" else 1.0 for c in captions])[:, None]
        return spread_N1 * rng.standard_normal((count, size))

    return of_function(
        function,
        (),
        name="exact",
        image_shape=(size,),
        activation=lambda params, y_BD, sigma, tokens_BL, layer, pool: y_BD,
        pixel_range=RANGE,
        sigma=0.3,
        sigma_max=SIGMA_MAX,
        sigma_min=SIGMA_MIN,
        layers=(LAYER,),
        layer=LAYER,
        takes_captions=with_caption is not None,
        tokens=lambda captions: np.array([[int(bool(c))] for c in captions]),
        sample=sample,
        passes_a_sample=7,
    )


def counted(model: DetectorModel, n: int) -> tuple[DetectorModel, list[float]]:
    """The model, and a list with what each call on ``n`` rows, or a multiple, costs a row."""
    costs = []

    def counting(call, passes):
        def counted_call(rows, *rest):
            costs.append(passes if len(rows) == n else 0)
            return call(rows, *rest)

        return counted_call

    def sample(key, count, captions=None):
        costs.append(model.passes_a_sample * count / n)
        return model.sample(key, count, captions)

    changed = dataclasses.replace(
        model,
        denoise=counting(model.denoise, 1),
        push=counting(model.push, 2),
        activations=counting(model.activations, 1),
        sample=sample,
    )
    return changed, costs
