"""Claims that compare denoisers of real images, their mutants, and the errors behind them."""

import numpy as np
import pytest
from conftest import needs_images

from proofs_checks import diffusion_denoisers as denoisers
from proofs_checks.claims import Verdict, judge
from proofs_checks.config import RunConfig

CLAIMS = {claim.id: claim for claim in denoisers.CLAIMS}
MUTANTS = [
    pytest.param(claim, mutant, id=f"{claim.id}: {mutant.name}")
    for claim in denoisers.CLAIMS
    for mutant in claim.mutants
]


@pytest.fixture(scope="module")
def experiment():
    return denoisers.build(RunConfig("diffusion", quick=True))


@pytest.mark.slow
@needs_images
@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_claim_has_its_expected_verdict(experiment, claim):
    assert judge(claim.check(experiment)) is claim.expected


@needs_images
@pytest.mark.parametrize(("claim", "mutant"), MUTANTS)
def test_mutant_fails(experiment, claim, mutant):
    assert judge(claim.check(mutant.apply(experiment))) is Verdict.FAILS


@needs_images
def test_the_wiener_filter_errs_as_its_closed_form():
    x_ND = denoisers.training_images(denoisers.MANY).rows
    eigenvalues = np.linalg.eigvalsh(np.cov(x_ND, rowvar=False))
    variance_T1 = np.square(denoisers.SIGMAS)[:, None]
    expected_T = np.sum(eigenvalues * variance_T1 / (eigenvalues + variance_T1), axis=1)
    errors_ST = denoisers.errors_of("wiener", "many", (0, 1, 2, 3))
    np.testing.assert_allclose(errors_ST.mean(axis=0), expected_T, rtol=0.15)


def test_without_images_claims_are_vacuous():
    experiment = denoisers.DenoiserComparison((0,), missing="no images")
    assert {judge(claim.check(experiment)) for claim in CLAIMS.values()} == {Verdict.VACUOUS}
    assert denoisers.results(experiment) == {}
