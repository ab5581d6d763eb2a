"""The errors behind claims that compare denoisers of real images."""

import numpy as np
import pytest

from proofs_checks.diffusion.deep_denoisers import MANY, SIGMAS, ErrorTable
from proofs_checks.diffusion.shipped import ShippedModels


def test_the_wiener_filter_errs_as_its_closed_form():
    models = ShippedModels()
    if models.missing:
        pytest.skip(models.missing)
    eigenvalues = np.linalg.eigvalsh(np.cov(models.training_images(MANY).rows, rowvar=False))
    variance_T1 = np.square(SIGMAS)[:, None]
    expected_T = np.sum(eigenvalues * variance_T1 / (eigenvalues + variance_T1), axis=1)
    errors_ST = ErrorTable(models).errors("wiener", "many", (0, 1, 2, 3))
    np.testing.assert_allclose(errors_ST.mean(axis=0), expected_T, rtol=0.15)
