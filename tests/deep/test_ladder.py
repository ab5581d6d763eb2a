"""The ladder: what its nets are, what is measured of them, and a run that goes on after a kill."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dae_theory.checks import InputError
from dae_theory.deep.ladder import __main__ as command
from dae_theory.deep.ladder import data, report, rungs
from dae_theory.deep.ladder.data import draw
from dae_theory.deep.ladder.measure import (
    Points,
    copied_share,
    jacobian_quantities,
    layer_quantities,
    neighbourhood_operators,
    operator_quantities,
)
from dae_theory.deep.ladder.nets import (
    CHANGES,
    PLAIN,
    NetConfig,
    denoise,
    hidden_layers,
    init_params,
    jacobian,
)
from dae_theory.deep.ladder.run import stored_denoiser
from dae_theory.deep.ladder.rungs import FIVE, GROUPS, UNTRAINED, LadderConfig, Rung
from dae_theory.deep.ladder.store import KEYS, TABLE, Ladder
from dae_theory.deep.ladder.training import Schedule, train_nets
from dae_theory.diffusion.jacobian import jacobian_matrices, stored_operator

SIGMA = 0.3
DEGREE_1 = (PLAIN, "skip", "convolution", "conditioned gains")  # D(cy) = c D(y)
DEGREE_0 = ("rms norm", "layer norm", "group norm")  # D(cy) = D(y)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# --- nets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", [PLAIN, *CHANGES])
def test_a_change_leaves_the_degree_of_homogeneity_that_it_should(change):
    net = NetConfig(1 if change != "convolution" else 2, 128, change)
    shapes = jax.eval_shape(lambda: init_params(jax.random.key(0), net))
    # Not as they start: biases and shifts of 0 change nothing.
    params = jax.tree.map(lambda p: 0.3 * random(*p.shape, seed=p.size), shapes)
    apply = jax.jit(lambda y, sigma: denoise(net, params, y, sigma))
    y = random(3, 196)
    once, twice, at_other_sigma = (
        np.asarray(apply(c * y, sigma)) for c, sigma in ((1, SIGMA), (2, SIGMA), (1, 0.9))
    )
    scale = np.abs(once).max()
    assert once.shape == y.shape
    assert np.allclose(twice, 2 * once, atol=1e-4 * scale) == (change in DEGREE_1)
    assert np.allclose(twice, once, atol=1e-4 * scale) == (change in DEGREE_0)
    sees_sigma = change in ("skip", "conditioned gains", "conditioned shifts")
    assert np.array_equal(once, at_other_sigma) != sees_sigma


def test_jacobian_and_hidden_layers_of_a_net_of_depth_1_are_those_of_its_two_matrices():
    net = NetConfig(1)
    params = init_params(jax.random.key(1), net)
    w1, w2 = (np.asarray(params[f"Dense_{i}"]["kernel"], np.float64) for i in (0, 1))
    y = random(196, seed=2)
    (hidden,) = hidden_layers(net, params, y[None], SIGMA).values()
    np.testing.assert_allclose(hidden[0], np.maximum(y @ w1, 0), rtol=1e-4, atol=1e-5)
    expected = (w1 * (y @ w1 > 0)) @ w2
    np.testing.assert_allclose(jacobian(net, params, y, SIGMA), expected.T, atol=1e-5)


def test_unknown_changes_and_widths_are_refused():
    for wrong in ({"change": "dropout"}, {"width": 100}, {"depth": 0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            NetConfig(**wrong)


# --- training ------------------------------------------------------------------------------------


def test_each_seed_is_trained_on_its_own_images_and_padding_does_not_matter():
    x = random(2, 4, 196, seed=3)
    net, how = NetConfig(1), Schedule(steps=150, batch_size=16)
    both = train_nets(jnp.arange(2), jnp.asarray(x), 4, net, how)
    padded = np.concatenate([x, np.full((2, 5, 196), np.nan, np.float32)], axis=1)
    again = train_nets(jnp.arange(2), jnp.asarray(padded), 4, net, how)
    for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(again), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
    start = init_params(jax.random.split(jax.random.key(0))[0], net)
    first, second = (jax.tree.map(lambda a, i=i: a[i], both) for i in range(2))
    errors = [
        float(np.mean((np.asarray(denoise(net, params, x[0], SIGMA)) - x[0]) ** 2))
        for params in (start, second, first)
    ]
    assert errors[2] < 0.2 * min(errors[:2])


def test_without_steps_nets_are_as_they_start():
    net = NetConfig(1)
    params = train_nets(jnp.arange(3, 4), jnp.ones((1, 1, 196)), 1, net, Schedule(steps=0))
    start = init_params(jax.random.split(jax.random.key(3))[0], net)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(start), strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-5, atol=1e-6)


# --- what is measured ----------------------------------------------------------------------------


def test_quantities_of_rank_one_operators_are_known():
    x = random(4, 24)
    m = stored_operator(x, SIGMA).matrix
    y = x + SIGMA * random(4, 24, seed=1)
    found = jacobian_quantities(Points(x, y, np.einsum("nde,ne->nd", m, y), m), SIGMA)
    for name in ("participation", "stable_rank", "left", "right", "degree"):
        assert found[name] == pytest.approx(1), name
    gain = np.mean(np.sum(x**2, axis=1) / (np.sum(x**2, axis=1) + SIGMA**2))
    for name in ("trace", "top", "gain", "gain_of_5"):
        assert found[name] == pytest.approx(gain), name
    assert found["antisymmetric"] == pytest.approx(0, abs=1e-12)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosines = np.sum(unit * np.roll(unit, 1, axis=0), axis=1)
    assert found["other_left"] == pytest.approx(np.mean(np.abs(cosines)))


def test_left_is_of_outputs_and_right_of_inputs():
    x = np.eye(2, 3, dtype=np.float32)
    matrix = np.zeros((2, 3, 3))
    matrix[0, 0, 2] = matrix[1, 1, 2] = 2.0  # reads e₃, writes the image
    found = jacobian_quantities(Points(x, x + 1, x, matrix), SIGMA)
    assert (found["left"], found["right"], found["gain"]) == (1, 0, 0)
    assert found["antisymmetric"] == pytest.approx(0.5)


def test_error_is_relative_and_copies_are_outputs_next_to_a_training_image():
    x = random(3, 16)
    found = jacobian_quantities(Points(x, x, np.zeros_like(x), np.stack([np.eye(16)] * 3)), SIGMA)
    assert found["error"] == pytest.approx(1)
    assert copied_share(x + 1e-3, x) == 1
    assert copied_share((x + np.roll(x, 1, axis=0)) / 2, x) == 0
    assert np.isnan(copied_share(x, x[:1]))


def test_neighbourhoods_grow_from_the_image_to_all_images():
    x = random(60, 8)
    labels = np.arange(60) % 2
    operators = neighbourhood_operators(x[:5], labels[:5], x, labels, SIGMA)
    assert set(operators) == {
        *(f"second moment/{name}" for name in ("1", "10", "label", "all")),
        *(f"covariance/{name}" for name in ("10", "label", "all")),
    }
    np.testing.assert_allclose(
        operators["second moment/1"], stored_operator(x[:5], SIGMA).matrix, atol=1e-9
    )
    second = x[labels == 1].T @ x[labels == 1] / 30
    expected = second @ np.linalg.inv(second + SIGMA**2 * np.eye(8))
    np.testing.assert_allclose(operators["second moment/label"][1], expected, atol=1e-6)
    centred = np.cov(x.T, bias=True)
    expected = centred @ np.linalg.inv(centred + SIGMA**2 * np.eye(8))
    assert operators["covariance/all"].shape == (1, 8, 8)
    np.testing.assert_allclose(operators["covariance/all"][0], expected, atol=1e-6)
    alone = neighbourhood_operators(x[:5], labels[:5] + 7, x, labels, SIGMA)
    assert "second moment/label" not in alone


def test_operators_are_compared_by_cosine_and_by_relative_distance():
    j = np.stack([np.eye(3), 2 * np.eye(3)])
    found = operator_quantities(j, {"all": np.eye(3)[None]})
    assert found == pytest.approx({"all/cosine": 1.0, "all/distance": 0.5})


def test_stored_units_are_those_of_one_image():
    one_each = np.stack([np.eye(6)] * 2)  # 2 draws of noise, 6 images, 6 units
    found = layer_quantities(one_each)
    assert (found["units"], found["stored"], found["hoyer"]) == pytest.approx((1, 1, 1))
    balanced = layer_quantities(np.ones((2, 6, 6)))
    assert (balanced["units"], balanced["stored"], balanced["hoyer"]) == pytest.approx((6, 0, 0))


def test_the_denoiser_of_5_has_the_jacobian_of_5():
    x = random(5, 12)
    found = jacobian_matrices(stored_denoiser(x), x, SIGMA)
    np.testing.assert_allclose(found, stored_operator(x, SIGMA).matrix, atol=1e-5)


# --- images --------------------------------------------------------------------------------------


def test_images_are_drawn_by_the_seed_and_held_out_faces_are_others():
    first, second = (draw("faces", 30, 8, seed) for seed in (0, 1))
    assert first.training.shape == (30, 196)
    assert not np.array_equal(first.training, second.training)
    same = (first.training[:, None] == first.held_out).all(axis=2)
    assert not same.any()
    assert first.training_labels is None
    np.testing.assert_allclose(data.pool("faces").training.mean(axis=0), 0, atol=1e-5)
    with pytest.raises(InputError, match="faces has 100"):
        draw("faces", 95, 8, 0)
    with pytest.raises(InputError, match="fashion_mnist, shuffled"):
        draw("cats", 1, 1, 0)


# --- the command ---------------------------------------------------------------------------------


@pytest.fixture
def short(monkeypatch):
    """Three rungs that take no time."""
    few = (
        Rung("faces", 3, PLAIN, 1),
        Rung("faces", 3, UNTRAINED, 1),
        Rung("faces", 3, FIVE),
    )
    monkeypatch.setitem(rungs.GROUPS, "core", few)
    return ["--groups=core", "--seeds=2", "--steps=3", "--points=2", "--first_seed=0"]


def test_a_ladder_is_climbed_goes_on_after_a_kill_and_is_read_again(
    short, tmp_path, monkeypatch, capsys
):
    measure, asked = command.run_rung, []

    def killed_at_the_third(rung, config):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(rung)
        return measure(rung, config)

    monkeypatch.setattr(command, "run_rung", killed_at_the_third)
    argv = ["ladder", *short, f"--out={tmp_path}"]
    with pytest.raises(KeyboardInterrupt):
        command.main(argv)
    monkeypatch.setattr(command, "run_rung", lambda rung, c: asked.append(rung) or measure(rung, c))
    assert command.main(argv) == 0
    assert asked == list(rungs.GROUPS["core"])
    assert capsys.readouterr().out == f"{tmp_path}: 3 of 3 rungs\n"

    ladder = Ladder.load(tmp_path)
    assert len(ladder.rows) == 6
    assert set(KEYS) <= set(ladder.rows[0])
    trained = ladder.values("hidden1/units", "faces", 3, PLAIN, 1)
    assert trained.shape == (2,)
    assert ladder.seeds("faces", 3, UNTRAINED, 1) == (0, 1)
    assert ladder.card["command"] == "python -m dae_theory.deep.ladder " + " ".join(
        ["--first_seed=0", "--seeds=2", "--groups=core", "--steps=3", "--points=2"]
    )
    with pytest.raises(InputError, match="no hidden9"):
        ladder.values("hidden9/units", "faces", 3, PLAIN, 1)
    with pytest.raises(InputError, match="no hidden1"):  # an exact denoiser has no layers
        ladder.values("hidden1/units", "faces", 3, FIVE)

    # Another config, or a table that is not the card's, is refused.
    assert command.main([*argv, "--steps=4"]) == 2
    assert "steps was 3, now 4" in capsys.readouterr().err
    (tmp_path / TABLE).write_bytes((tmp_path / TABLE).read_bytes()[:-9])
    with pytest.raises(InputError, match="get both anew"):
        Ladder.load(tmp_path)
    assert command.main([*argv, "--merge"]) == 0
    assert Ladder.load(tmp_path).rows == ladder.rows


def test_bad_options_are_refused(tmp_path, capsys):
    for option, word in (
        ("--seeds=0", "seeds"),
        ("--groups=first", "groups"),
        ("--sigma=0", "sigma"),
        ("--points=1", "points"),
    ):
        assert command.main(["ladder", option, f"--out={tmp_path / 'x'}"]) == 2
        assert word in capsys.readouterr().err
    assert command.main(["ladder"]) == 2
    assert "--out=DIR" in capsys.readouterr().err


def test_every_rung_has_a_file_name_of_its_own():
    config = LadderConfig(groups=tuple(GROUPS))
    names = [rung.name for rung in config.rungs]
    assert len(set(names)) == len(names)
    assert replace(config, groups=("core",)).rungs == GROUPS["core"]


# --- the ladder in the package -------------------------------------------------------------------


def test_the_results_page_has_the_tables_of_the_ladder_in_the_package():
    ladder = Ladder.load()
    page = (Path(__file__).resolve().parents[2] / "docs" / "RESULTS.md").read_text().splitlines()
    for title, lines in report.tables(ladder).items():
        start = page.index(f"#### {title}") + 2
        assert page[start : start + len(lines)] == lines, title


def test_the_ladder_in_the_package_is_small_and_of_seeds_not_used_in_development():
    ladder = Ladder.load()
    assert min(row["seed"] for row in ladder.rows) == LadderConfig().first_seed
    assert (ladder.folder / TABLE).stat().st_size < 500_000
    assert ladder.card["command"] == "python -m dae_theory.deep.ladder"


def test_tables_are_printed(capsys):
    assert command.main(["ladder", "--show"]) == 0
    assert capsys.readouterr().out.strip() == report.text(Ladder.load())
