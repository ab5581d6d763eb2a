"""The reference experiment (docs/THEORY.md#reference-experiment) as a plain PyTorch loop."""

import time
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float


class TorchResult(NamedTuple):
    """Trained tied weights (D, P); seconds of all steps, and of the first, which sets things up."""

    w: Float[np.ndarray, "D P"]
    seconds: float
    first_seconds: float


def train_tied(
    x_ND: Float[np.ndarray, "N D"],
    start_DP: Float[np.ndarray, "D P"],
    *,
    sigma: float,
    optimizer: str,
    learning_rate: float,
    weight_decay: float,
    batch_size: int | None,
    steps: int,
    seed: int,
    threads: int,
) -> TorchResult:
    """Denoising autoencoder f(x) = W [Wᵀx]_+ trained by fresh noise, a mean over pixels.

    ``optimizer`` is 'rmsprop' or 'adam' with PyTorch's defaults; a batch is drawn with
    replacement, None means all samples.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    x_ND = torch.tensor(x_ND, dtype=torch.float32)
    w_DP = torch.nn.Parameter(torch.tensor(start_DP, dtype=torch.float32))
    make = {"rmsprop": torch.optim.RMSprop, "adam": torch.optim.Adam}[optimizer]
    descent = make([w_DP], lr=learning_rate, weight_decay=weight_decay)
    begin = time.perf_counter()
    for step in range(steps):
        clean = x_ND
        if batch_size is not None:
            clean = x_ND[torch.randint(len(x_ND), (batch_size,))]
        noisy = clean + sigma * torch.randn_like(clean)
        denoised = torch.relu(noisy @ w_DP) @ w_DP.T
        loss = torch.mean((denoised - clean) ** 2)
        descent.zero_grad()
        loss.backward()
        descent.step()
        if step == 0:
            first_seconds = time.perf_counter() - begin
    seconds = time.perf_counter() - begin
    return TorchResult(w_DP.detach().numpy(), seconds, first_seconds)
