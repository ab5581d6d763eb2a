"""The benchmark runs end to end at toy sizes, and its recipes are the same objective."""

import json

import jax
import numpy as np
import pytest
from conftest import needs_images

from benchmarks import compare_reports, run
from benchmarks.cases import exact_training_loss, train_config
from benchmarks.recipes import GENERALIZATION, MEMORIZATION, Recipe
from dae_theory import exact_loss, sampled_loss

TOY = Recipe("toy", 6, "adam", 1e-3, 0.05, None, steps=5, width=4, size=4)


def toy_samples():
    return np.random.default_rng(1).standard_normal((TOY.n, TOY.n_features))


def test_the_decay_makes_both_objectives_equal():
    x, w = toy_samples(), TOY.start(0)
    noise = np.random.default_rng(2).standard_normal((1, *x.shape))
    denoised = np.maximum((x + TOY.sigma * noise[0]) @ w, 0) @ w.T
    mean_over_pixels = np.mean((denoised - x) ** 2)
    loop = mean_over_pixels + TOY.weight_decay / 2 * np.sum(w**2)
    ours = sampled_loss(w, w, x, noise, TOY.sigma, TOY.lam)
    np.testing.assert_allclose(ours, TOY.n_features * loop, rtol=1e-12)
    # Mutant: the λ of two matrices that are both decayed.
    mutant = sampled_loss(w, w, x, noise, TOY.sigma, 2 * TOY.lam)
    assert abs(mutant / (TOY.n_features * loop) - 1) > 1e-3


def test_recipes_have_the_decay_of_the_reference_experiment():
    assert (MEMORIZATION.lam, GENERALIZATION.lam) == (2.56, 0.0256)


def test_a_pytorch_step_is_a_step_on_our_objective():
    torch = pytest.importorskip("torch")
    from benchmarks.torch_peer import train_tied

    x, w, rate = toy_samples(), TOY.start(0), 1e-3
    options = {"sigma": TOY.sigma, "optimizer": "rmsprop", "learning_rate": rate}
    options |= {"weight_decay": TOY.weight_decay, "batch_size": None, "steps": 1}
    stepped = train_tied(x, w, seed=3, threads=1, **options).w
    torch.manual_seed(3)
    noise = torch.randn(x.shape).numpy()[None]

    def ours(w):
        return sampled_loss(w, w, x, noise, TOY.sigma, TOY.lam) / TOY.n_features

    # RMSprop's first step is the gradient over √.01 of its size, and so the sign of it.
    gradient = np.asarray(jax.grad(ours)(w))
    expected = w - rate * gradient / (0.1 * np.abs(gradient) + 1e-8)
    np.testing.assert_allclose(stepped, expected, atol=1e-5)


def test_our_training_has_the_recipe():
    config = train_config(GENERALIZATION, 7)
    assert (config.optimizer, config.batch_size, config.steps) == ("adam", 256, 7)
    assert (config.tied, config.schedule, config.lam) == (True, "constant", GENERALIZATION.lam)


def test_final_losses_are_exact():
    x, w = toy_samples(), TOY.start(0)
    expected = exact_loss(w, w, x, TOY.sigma, TOY.lam)
    np.testing.assert_allclose(exact_training_loss(w, x, TOY), expected, rtol=1e-9)


def test_flops_are_those_of_the_compiled_step():
    n, d, p = 256, GENERALIZATION.n_features, GENERALIZATION.width

    def data_term(w):
        x = np.ones((n, d), np.float32)
        return sampled_loss(w, w, x, x[None], 0.2, 0.0)

    compiled = jax.jit(jax.grad(data_term)).lower(np.ones((d, p), np.float32)).compile()
    counted = compiled.cost_analysis()["flops"]
    np.testing.assert_allclose(counted, GENERALIZATION.flops_per_step, rtol=0.05)


@pytest.mark.slow
@needs_images
def test_quick_run_at_toy_sizes(tmp_path, capfd):
    cases = ["memorization/torch", "memorization/sgd", "generalization/sweep"]
    cases += ["generalization/solver"]
    sizes = ["--image_size=8", "--n=64", "--p=8", "--steps=40", "--seeds=2"]
    out = tmp_path / "out"
    arguments = ["run", f"--out={out}", "--quick", f"--case={','.join(cases)}", *sizes]
    assert run.main(arguments) == 0
    printed = capfd.readouterr().out
    results = json.loads((out / "results.json").read_text())
    if "left out: memorization/torch" in printed:
        cases = cases[1:]
    else:
        assert "memorization/sgd warm" in results["times_faster_than_torch"]
    assert list(results["cases"]) == cases
    for result in results["cases"].values():
        assert min(result["warm_seconds"], result["cold_seconds"]) > 0
        assert result["peak_memory_mib"] >= result["imports_mib"] > 0
        assert result["matmul_gflops"] > 0
    solver = results["cases"]["generalization/solver"]
    np.testing.assert_allclose(solver["exact_loss"], solver["loss"], rtol=1e-6)
    assert results["cases"]["generalization/sweep"]["nets"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out=x", "--case=a/b"], "case: unknown case 'a/b'"),
        ([], "out: say where the results go"),
        (["--out=x", "--steps=0"], "steps: must be at least 1"),
        (["--out=x", "extra"], "unexpected argument 'extra'"),
        (["--out=x", "--nonsense"], "Unknown command line flag"),
    ],
)
def test_unusable_arguments_are_refused(arguments, message, capsys):
    assert run.main(["run", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_verdicts_of_two_reports(tmp_path, capsys):
    claim = {
        **{"id": "a/same", "kind": "exact", "statement": "One.", "expected": "holds"},
        **{"verdict": "holds", "error": 0.1, "tolerance": 0.2, "note": "", "assumptions": {}},
    }
    renamed = claim | {"id": "b/moved", "statement": "Two.", "tolerance": 1.0}
    kept = claim | {"id": "d/kept", "statement": "Four."}
    old = [claim, kept, renamed | {"id": "old/moved", "tolerance": 0.5}]
    new = [
        claim | {"verdict": "fails"},
        kept,
        renamed | {"verdict": "vacuous", "assumptions": {"z": {"met": False}}},
        claim | {"id": "c/new", "statement": "Three.", "error": None},
    ]
    for name, claims in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(json.dumps({"claims": claims}))
    options = ["compare", f"--old={tmp_path / 'old'}", f"--new={tmp_path / 'new'}", "--verdicts"]
    assert compare_reports.main(options) == 0
    table, _, same = capsys.readouterr().out.partition("\n\n")
    assert same.splitlines()[1:] == ["1 holds: d/kept"]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]
    ]
    assert rows == [
        ["a/same", "exact", "holds", "fails", "0.1", "0.2", ""],
        ["b/moved", "exact", "holds", "vacuous", "0.1", "1", "tolerance 0.5 → 1.0; not met: z"],
        ["c/new", "exact", "–", "holds", "–", "0.2", "new"],
    ]
