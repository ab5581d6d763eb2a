"""Claims on Jacobians of nets: on the denoiser that an ideal net would be, on (5), on mutants."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from dae_theory import InputError
from dae_theory.deep.activations import LayerStatistics
from dae_theory.deep.checkpoints import Checkpoint
from dae_theory.deep.network import NetworkConfig
from dae_theory.deep.training import DeepConfig
from dae_theory.diffusion.denoisers import mixture_denoiser
from dae_theory.diffusion.jacobian import jacobian_matrices
from proofs_checks.claims import Verdict, check
from proofs_checks.diffusion.deep_jacobian import CLAIMS as JACOBIAN_CLAIMS
from proofs_checks.diffusion.deep_layers import CLAIMS as LAYER_CLAIMS
from proofs_checks.diffusion.deep_layers import DETECTOR, best_statistic
from proofs_checks.diffusion.jacobian_mutants import STORED
from proofs_checks.diffusion.jacobian_study import (
    SIGMAS,
    JacobianExperiment,
    LayerScores,
    NetPoints,
    Points,
    build_jacobian,
    control_of,
)

CLAIMS = (*JACOBIAN_CLAIMS, *LAYER_CLAIMS)
D, LABELS, COUNT = 24, 3, 6
BY_ID = {claim.id.removeprefix("diffusion/"): claim for claim in CLAIMS}
# Shares of pairs, of which COUNT memorized images are too few to bound 0 by a twentieth.
OF_COUNT = {"jacobian-fewer-directions", "layers-detector", "layers-detector-text"}
FAILS_ON_IDEAL = {"jacobian-top-direction", "jacobian-stored-gain"}  # f_emp keeps nothing
MUTANTS = [
    pytest.param(claim, mutant, id=f"{claim.id}: {mutant.name}")
    for claim in CLAIMS
    for mutant in claim.mutants
]


def random(*shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


def judged(claim, jacobian, mutant=None):
    return check(claim, SimpleNamespace(jacobian=jacobian), mutant)


@pytest.fixture(scope="module")
def ideal():
    """A net that is the posterior mean of a few points with mass and of Gaussian clusters."""
    means, stored = 3 * random(LABELS, D, seed=0), 3 * random(COUNT, D, seed=1)
    turns = np.linalg.qr(random(LABELS, D, D, seed=2))[0]
    covs = (turns * np.geomspace(1, 1e-3, D)) @ turns.transpose(0, 2, 1)
    roots = turns * np.sqrt(np.geomspace(1, 1e-3, D))
    clusters = means[:, None] + random(LABELS, 5000, D, seed=3) @ roots.transpose(0, 2, 1)
    control = mixture_denoiser(means, covs, np.full(LABELS, 1 / LABELS))
    net = mixture_denoiser(
        np.concatenate([means, stored]),
        np.concatenate([covs, np.zeros((COUNT, D, D))]),
        np.repeat([0.5 / LABELS, 0.5 / COUNT], [LABELS, COUNT]),
    )
    labels = np.arange(10) % LABELS
    fresh = means[labels] + np.einsum("nde,ne->nd", roots[labels], random(10, D, seed=4))

    def points(denoiser, x, labels):
        noise = random(*x.shape, seed=5)
        return Points(
            x,
            labels,
            np.stack([jacobian_matrices(denoiser, x + s * noise, s) for s in SIGMAS]),
        )

    def layers(shift):
        scores = random(40, seed=6) + shift * (np.arange(40) < COUNT)
        values = {"up1/units": {DETECTOR: np.stack([scores] * len(SIGMAS))}}
        return LayerScores(LayerStatistics(SIGMAS, values), np.arange(40) < COUNT, "up1/units")

    none = np.full(COUNT, -1)
    hybrid = NetPoints(
        "hybrid",
        True,
        points(net, fresh, labels),
        points(net, stored, none),
        points(control, stored, none),
        layers(9.0),
        layers(0.0),
    )
    memorizing = replace(hybrid, name="memorizing", mixed=False)
    text = replace(hybrid, name="text", text=True)
    generalizing = NetPoints("generalizing", False, points(control, fresh, labels))
    return JacobianExperiment((hybrid, memorizing, generalizing, text), tuple(clusters))


@pytest.mark.parametrize("name", BY_ID)
def test_verdict_on_the_ideal_net(ideal, name):
    result = judged(BY_ID[name], ideal)
    if name in OF_COUNT:
        assert (result.verdict, result.measured.error) == (Verdict.INCONCLUSIVE, 0)
    else:
        assert result.verdict is (Verdict.FAILS if name in FAILS_ON_IDEAL else Verdict.HOLDS)


@pytest.mark.parametrize("name", sorted(FAILS_ON_IDEAL))
def test_claims_that_fail_there_hold_for_the_jacobians_of_the_theory(ideal, name):
    assert judged(BY_ID[name], ideal, STORED).verdict is Verdict.HOLDS


@pytest.mark.parametrize(("claim", "mutant"), MUTANTS)
def test_mutant_fails_on_the_ideal_net(ideal, claim, mutant):
    assert judged(claim, ideal, mutant).verdict is Verdict.FAILS


def test_the_worst_net_decides_and_all_are_named(ideal):
    (claim,) = (c for c in CLAIMS if c.id == "diffusion/jacobian-symmetric")
    shifted = claim.mutants[0].apply(ideal).nets[0]
    result = judged(claim, replace(ideal, nets=(shifted, *ideal.nets[1:])))
    assert result.verdict is Verdict.FAILS
    assert "images of hybrid" in result.measured.note
    assert "generalizing" in result.measured.note


def test_without_memorizing_nets_claims_about_them_are_vacuous(ideal):
    without = replace(ideal, nets=ideal.nets[2:3])
    verdicts = {name: judged(claim, without).verdict for name, claim in BY_ID.items()}
    assert verdicts["jacobian-fewer-than-control"] is Verdict.VACUOUS
    assert verdicts["layers-detector"] is Verdict.VACUOUS
    assert verdicts["jacobian-local-spectrum"] is Verdict.HOLDS


def test_arrays_and_the_best_layer(ideal):
    arrays = ideal.arrays
    assert arrays["hybrid/memorized/values"].shape == (len(SIGMAS), COUNT, D)
    assert arrays[f"hybrid/layers/up1/units/{DETECTOR}"].shape == (len(SIGMAS), 40)
    assert arrays[f"hybrid/control_layers/up1/units/{DETECTOR}"].shape == (len(SIGMAS), 40)
    assert "generalizing/memorized/values" not in arrays
    assert best_statistic(ideal.nets[0].layers) == (f"up1/units/{DETECTOR}", 1.0)


def test_every_memorizing_net_has_a_control_of_its_architecture():
    def checkpoint(name, images, planted, text=False):
        network = NetworkConfig("dit", text=text)
        return Checkpoint(name, DeepConfig(network, images=images, planted=planted), {}, {})

    nets = [
        checkpoint("hybrid", 5000, 7),
        checkpoint("memorizing", 40, 0),
        checkpoint("with text", 5000, 0, text=True),
        checkpoint("generalizing", 5000, 0),
    ]
    assert [net.stored for net in nets] == [7, 40, 0, 0]
    assert control_of(nets[0], nets) is control_of(nets[1], nets) is nets[3]
    with pytest.raises(InputError, match="memorizes nothing"):
        control_of(nets[0], nets[:3])
    for refused in ([], [replace(nets[0], config=DeepConfig(data="faces", images=90))]):
        with pytest.raises(InputError, match="Fashion-MNIST"):
            build_jacobian(refused)
