"""Nets that are not at a minimum of (1) are not judged, and advice says why."""

from dataclasses import replace

import numpy as np
import pytest

from dae_theory.data import simplex
from dae_theory.solve.local import solve_local_minimum
from dae_theory.theory.problem import Problem
from dae_theory.weights.read import SavedWeights
from proofs_checks import memorize
from proofs_checks.claims import Kind, Verdict, check
from proofs_checks.config import RunConfig
from proofs_checks.memorize import experiment as memorize_experiment
from proofs_checks.memorize.experiment import FREE, LIVE, TRAINED, build, from_weights
from proofs_checks.mutants import UNTRAINED
from proofs_checks.nets import nets_of, untrained
from proofs_checks.regimes import all_regimes
from proofs_checks.run import main
from proofs_checks.stationarity import AT_MINIMUM, MOVEMENT, UNITS_AT_REST, is_about_nets

D = P = 16
SIGMA, LAM = 0.05, 0.005
NAME = AT_MINIMUM.name
OF_NETS = [c for c in memorize.CLAIMS if set(TRAINED) <= set(c.requires)]
CLAIMS = {claim.id: claim for claim in memorize.CLAIMS}


@pytest.fixture(scope="module")
def trained() -> SavedWeights:
    """A square net at a minimum, not tied."""
    x_ND = simplex(4, D).x
    start = 0.3 * np.random.default_rng(0).standard_normal((2, D, P))
    found = solve_local_minimum(*start, x_ND, SIGMA, LAM)
    return SavedWeights(found.w1, found.w2, Problem(x_ND, SIGMA, LAM))


def unmet(saved: SavedWeights) -> dict:
    """What keeps the claims on nets from being judged."""
    experiment = from_weights(saved)
    results = [check(claim, experiment) for claim in OF_NETS if "live-units" not in claim.id]
    assert {result.verdict for result in results} == {Verdict.VACUOUS}
    assert len({tuple(result.unmet) for result in results}) == 1
    return results[0].unmet


def test_nets_at_a_minimum_are_judged(trained):
    experiment = from_weights(trained)
    assert experiment.stopped.movement < 1e-6
    for claim in (claim for claim in OF_NETS if claim.kind is not Kind.EXPLORATORY):
        expected = Verdict.VACUOUS if "live-units" in claim.id else claim.expected
        assert check(claim, experiment).verdict is expected, claim.id


@pytest.mark.parametrize(
    ("which", "words"),
    [((0,), "W1 is transposed"), ((1,), "W2 is transposed"), ((0, 1), "W1 and W2 are transposed")],
)
def test_transposed_matrices_are_named(trained, which, words):
    weights = [w.T if i in which else w for i, w in enumerate((trained.w1, trained.w2))]
    (assumption,) = unmet(trained._replace(w1=weights[0], w2=weights[1])).values()
    assert assumption.value > 0.5
    assert assumption.advice.startswith(words)


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_a_wrong_lambda_is_told(trained, factor):
    problem = replace(trained.problem, lam=factor * LAM)
    (assumption,) = unmet(trained._replace(problem=problem)).values()
    assert assumption.advice.startswith("these weights are at a minimum for lam = 0.005,")


def test_a_small_unit_on_its_way_to_a_sample_is_not_judged(trained):
    u_D = trained.problem.x[0] / np.linalg.norm(trained.problem.x[0])
    off_D = np.linalg.svd(trained.problem.x)[2][-1]
    smallest = np.argmin(np.linalg.norm(trained.w1, axis=0))  # a dead unit makes room
    w1, w2 = trained.w1.copy(), trained.w2.copy()
    w1[:, smallest] = w2[:, smallest] = 0.06 * (0.9 * u_D + np.sqrt(0.19) * off_D)
    ((name, assumption),) = unmet(trained._replace(w1=w1, w2=w2)).items()
    assert name == UNITS_AT_REST.name
    assert 0.3 < assumption.value < 0.6  # its sine is .44
    assert assumption.advice.startswith("train longer")
    assert from_weights(trained._replace(w1=w1, w2=w2)).stopped.movement < MOVEMENT


def test_untrained_and_jittering_nets_are_told_to_train_longer(trained):
    start = untrained(nets_of(trained))
    (assumption,) = unmet(trained._replace(w1=start.w1[0], w2=start.w2[0])).values()
    assert assumption.advice.startswith("train longer")
    noise = np.random.default_rng(0).standard_normal((2, D, P))
    jitter = 0.05 * np.linalg.norm(trained.w1) / np.linalg.norm(noise[0]) * noise
    jittering = trained._replace(w1=trained.w1 + jitter[0], w2=trained.w2 + jitter[1])
    (assumption,) = unmet(jittering).values()
    assert MOVEMENT < assumption.value < 0.2


def test_nets_that_were_trained_too_shortly_do_not_fail(tmp_path, monkeypatch):
    monkeypatch.setattr(memorize_experiment, "STEPS", 400)
    x_ND = np.zeros((60, 30))
    x_ND[:, :10] = np.random.default_rng(0).standard_normal((60, 10))
    np.save(tmp_path / "x.npy", x_ND)
    config = RunConfig("memorize", data=str(tmp_path / "x.npy"), n=5, p=20, seeds=1)
    result = check(CLAIMS["cor3.2/columns"], build(config, lambda what, done, total: None))
    assert result.verdict is Verdict.VACUOUS
    assert list(result.unmet) == [NAME]
    assert result.measured.note.endswith("--trainer=exact goes to the minimum")


def test_a_net_of_zeros_stores_nothing(trained):
    experiment = from_weights(trained._replace(w1=0 * trained.w1, w2=0 * trained.w2))
    verdicts = {claim.id: check(claim, experiment).verdict for claim in OF_NETS}
    failing = {"cor3.2/coverage", "cor3.2/gains"}
    assert {name for name, verdict in verdicts.items() if verdict is Verdict.FAILS} == failing
    assert {v for name, v in verdicts.items() if name not in failing} == {Verdict.VACUOUS}
    assert list(check(CLAIMS["cor3.2/columns"], experiment).unmet) == ["live units"]


@pytest.mark.parametrize("regime", ["memorize", "generalize", "hybrid", "certify"])
def test_weights_of_zeros_give_no_error(tmp_path, trained, regime):
    zeros, problem = np.zeros((D, P)), trained.problem
    path = tmp_path / "zero.npz"
    np.savez(path, W1=zeros, W2=zeros, X=problem.x, sigma=SIGMA, lam=LAM)
    status = main(["run", f"--regime={regime}", f"--weights={path}"])
    assert status == (1 if regime == "memorize" else 0)


def test_a_tied_net_says_nothing_about_ties(trained):
    tied = from_weights(trained._replace(w2=trained.w1.copy()))
    for claim in OF_NETS:
        says_nothing = check(claim, tied).unmet.keys() == {"W1 and W2"}
        assert says_nothing == (set(FREE) <= set(claim.requires)), claim.id


def test_two_opposite_samples_leave_no_residual_to_fit(tmp_path):
    x_D = np.random.default_rng(0).standard_normal(40)
    np.save(tmp_path / "x.npy", np.stack([x_D, -x_D]))
    config = RunConfig("memorize", data=str(tmp_path / "x.npy"), p=20, center=False)
    result = check(CLAIMS["cor3.2/residual-decay"], build(config, lambda what, done, total: None))
    assert result.verdict is Verdict.VACUOUS
    assert result.unmet["points above rounding"].value == 0


def test_coverage_asks_for_gains():
    """Units that answer most to a sample, and decode something else, do not store it."""
    x_ND = simplex(4, D).x
    experiment = build(RunConfig("memorize", data="simplex", n=4, p=8), lambda *progress: None)
    random = np.random.default_rng(0).standard_normal((2, 1, len(experiment.problem.x[0]), 8))
    nets = replace(nets_of(SavedWeights(*random[:, 0], experiment.problem)), seeds=())
    mutant = replace(experiment, replaced=nets)
    assert all(c.widths.sum() > 0 for c in mutant.comparisons)
    assert CLAIMS["cor3.2/coverage"].measure(mutant).error > 0
    assert len(x_ND) == len(experiment.problem.x)


def test_a_run_that_judged_nothing_says_so(tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.ones((8, 5)))
    assert main(["run", "--regime=memorize", f"--data={tmp_path / 'x.npy'}"]) == 0
    assert "nothing was checked" in capsys.readouterr().out
    assert main(["run", "--regime=memorize", "--claim=cor3.2/stationary"]) == 0
    assert "nothing was checked" not in capsys.readouterr().out


def test_a_run_that_judged_no_nets_says_so(tmp_path, trained, capsys):
    path, p = tmp_path / "net.npz", trained.problem
    random = 0.3 * np.random.default_rng(0).standard_normal((2, D, P))
    for w1, w2 in (random, (trained.w1, trained.w2)):
        np.savez(path, W1=w1, W2=w2, X=p.x, sigma=p.sigma, lam=p.lam)
        assert main(["run", "--regime=memorize", f"--weights={path}"]) == 0
        said = "no claim about nets was checked" in capsys.readouterr().out
        assert said == (w1 is not trained.w1)


def test_vacuous_on_default_data_is_unexpected(monkeypatch, capsys):
    monkeypatch.setattr(memorize_experiment, "DEFAULT_SIGMA", 5.0)
    arguments = ["run", "--regime=memorize", "--claim=cor3.2/columns"]
    assert main(arguments) == 1
    assert "unexpected: cor3.2/columns vacuous, expected holds" in capsys.readouterr().out
    assert main([*arguments, "--sigma=5"]) == 0


def test_what_was_found_before_a_refusal_is_reported(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("proofs_checks.nets.free_memory", lambda devices: 1e5)
    out = tmp_path / "run"
    assert main(["run", "--regime=memorize", "--data=simplex", "--n=3", f"--out={out}"]) == 2
    captured = capsys.readouterr()
    assert captured.out.count("holds") >= 4
    assert "p: to train 8 nets of n=6, p=40 takes about" in captured.err
    assert (out / "report.json").is_file()


def test_fewer_units_than_samples_settle_a_large_set_at_once(monkeypatch):
    monkeypatch.setattr(memorize_experiment, "choose_samples", None)
    monkeypatch.setattr("dae_theory.theory.problem.separability", None)
    config = RunConfig("memorize", data="mixture", n=3000, p=100)
    experiment = build(config, lambda what, done, total: None)
    assert {tuple(check(c, experiment).unmet) for c in memorize.CLAIMS} == {("p/n",)}


class NetsAskedForError(Exception):
    """A measurement looks at nets."""


class NoNets:
    """A training that has no nets to show."""

    done = False

    @property
    def nets(self):
        raise NetsAskedForError


@pytest.mark.parametrize("regime", ["memorize", "generalize", "hybrid"])
def test_a_claim_that_looks_at_nets_requires_a_minimum(regime):
    (regime,) = (known for known in all_regimes() if known.name == regime)
    config = RunConfig(regime.name, seeds=1, first_seed=0)
    whole = regime.build(config, lambda what, done, total: None)
    for claim in regime.claims:
        part = getattr(whole, claim.part) if claim.part else whole
        looks = False
        try:
            claim.measure(replace(getattr(part, "draws", (part,))[0], training=NoNets()))
        except NetsAskedForError:
            looks = True
        assert looks == is_about_nets(claim), claim.id


# Claims that hold of untrained nets, too, or are about others than the nets under test.
NO_UNTRAINED_MUTANT = {
    "cor3.2/live-units",  # nothing that is dead comes back before training
    "cor3.3/balanced",  # random weights spread the representation, too
    "unseen/units",  # over as many units on fresh samples as on training samples
    "extraction/coverage",  # nothing of the right direction is read off some of them
    "unseen/halves-agree",  # its mutant leaves one half untrained
    "certify/weights/minimum",  # solved from the weights first
    "certify/weights/dead-units",
    "detect/gap-stored",  # gap ratios refuse the small outputs of random weights
}


def test_every_claim_on_nets_requires_a_minimum_and_fails_untrained():
    listed = {
        claim.id: claim
        for regime in all_regimes()
        for claim in (*regime.claims, *(regime.weights_claims or ()))
    }
    on_nets = {name for name, claim in listed.items() if is_about_nets(claim)}
    assert len(on_nets) > 40
    named = {n: {mutant.name for mutant in listed[n].mutants} for n in on_nets}
    assert {n for n in on_nets if UNTRAINED.name not in named[n]} == NO_UNTRAINED_MUTANT
    assert set(LIVE) > set(TRAINED)
