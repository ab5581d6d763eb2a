"""Two samples at a cosine: the losses, and what holds at a negative one."""

import pytest

from proofs_checks.certify.pair import CLAIMS, COSINE, pair_at, positive_cosine
from proofs_checks.claims import Verdict, judge
from proofs_checks.monte_carlo import exact_loss_value

pytestmark = pytest.mark.xdist_group("certify-default-pair")


def test_a_pair_at_negative_cosine_is_stationary():
    (claim,) = CLAIMS
    assert judge(positive_cosine(pair_at(-COSINE)), claim.tolerance) is Verdict.HOLDS


def test_losses_of_the_pair_at_positive_cosine():
    pair = pair_at(COSINE)
    p, b = pair.prediction, pair.problem
    assert exact_loss_value(p.w1, p.w2, b.x, 0.02, 0.01) == pytest.approx(0.123, abs=5e-4)
    assert pair.nearby.converged
    assert pair.nearby.loss == pytest.approx(0.0403, abs=5e-5)
