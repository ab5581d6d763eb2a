"""Sweeps: each cell is what `train` gives, whatever is packed, padded, killed, sharded or full."""

import contextlib
import fcntl
import hashlib
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import QUICK_TO_COMPILE
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import Mesh

from dae_theory import (
    InputError,
    TrainConfig,
    collinear_groups,
    compare_weights,
    empirical_denoiser,
    exact_loss,
    init_weights,
    merge_groups,
    mixture_denoiser,
    predict_blocks,
    predict_memorization,
    spikiness,
    train,
)
from dae_theory.data.mixtures import separable_mixture
from dae_theory.relu.batch import NetSpec, advance_nets, init_nets
from dae_theory.relu.model import denoise, encode
from dae_theory.relu.optimize import Level
from dae_theory.sweep import batch as sweep_batch
from dae_theory.sweep.__main__ import main
from dae_theory.sweep.measure import (
    MEASURES,
    Blocks,
    Problem,
    cluster_blocks,
    measure_net,
    noise_free_losses,
)
from dae_theory.sweep.plan import (
    SweepConfig,
    grid_cells,
    load_source,
    memory_bytes,
    padded_sizes,
    plan_batches,
    train_config,
    training_samples,
)
from dae_theory.sweep.precision import precision_report
from dae_theory.sweep.run import run_sweep
from dae_theory.sweep.store import merge, open_folder, read_parts

ROOT = Path(__file__).resolve().parents[2]
TINY = SweepConfig(
    n=(3, 5), seeds=2, sigma=(0.1, 0.3), lam=(1e-3,), p=(4, 6), dimension=6, clusters=2, steps=20,
    held_out=16, save_weights=True,
)  # fmt: skip


def columns(table, without=("wall_s",)):
    return {name: table[name].to_pylist() for name in table.column_names if name not in without}


def assert_same(table, other, rtol):
    assert table.column_names == other.column_names
    for name, values in columns(table).items():
        if isinstance(values[0], str):
            assert values == other[name].to_pylist()
        else:
            np.testing.assert_allclose(values, other[name].to_pylist(), rtol, rtol, err_msg=name)


def weights_of(out):
    """(w1, w2) by cell, from the files of a sweep."""
    found = {}
    for path in (out / "weights").glob("*.npz"):
        with np.load(path) as file:
            found |= dict(
                zip(file["cell"].tolist(), zip(file["w1"], file["w2"], strict=True), strict=True)
            )
    return found


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache of compiled programs, so that sweeps of the same shapes compile once."""
    folder = tmp_path_factory.mktemp("compiled")
    changes = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: jax.config.values[name] for name in changes}
    for name, value in changes.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.fixture(scope="module", autouse=True)
def _compile_once(compiled):
    """All tests of this file use the cache."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A finished sweep of TINY: its folder and its table."""
    out = tmp_path_factory.mktemp("tiny")
    seen = []
    summary = run_sweep(TINY, out, progress=lambda done, total: seen.append((done, total)))
    assert summary[:3] == (16, 0, 16)
    assert seen[-1] == (16, 16)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    return out, merge(out, csv=True).table


def test_one_table_holds_every_cell_with_its_config(tiny):
    out, table = tiny
    cells = grid_cells(TINY)
    assert table["cell"].to_pylist() == list(range(16))
    for name in ("seed", "n", "sigma", "lam", "p"):
        assert table[name].to_pylist() == [getattr(cell, name) for cell in cells]
    assert set(table["status"].to_pylist()) == {"ok"}
    for name in ("train_loss", *MEASURES, "wall_s"):
        assert np.all(np.isfinite(table[name].to_numpy())), name
    stored = pq.read_table(out / "results.parquet")
    assert stored.equals(table)
    assert b'"seeds": 2' in stored.schema.metadata[b"sweep"]
    assert pyarrow.csv.read_csv(out / "results.csv").column_names == table.column_names


def test_a_padded_cell_is_the_net_that_train_gives(tiny):
    out, table = tiny
    weights, source = weights_of(out), load_source(TINY)
    assert padded_sizes(TINY.n) == {3: 5, 5: 5}
    for cell in (grid_cells(TINY)[index] for index in (0, 11)):
        x, _ = training_samples(source, cell.seed, cell.n)
        with jax.enable_x64(False), jax.default_matmul_precision("highest"):
            settings = train_config(TINY, cell.p, cell.sigma, cell.lam)
            alone = train(jax.random.key(cell.seed), x, settings)
        for padded, w in zip(weights[cell.index], (alone.w1, alone.w2), strict=True):
            assert padded.dtype == np.float32
            np.testing.assert_allclose(padded[:, : cell.p], w, atol=1e-5)
            np.testing.assert_array_equal(padded[:, cell.p :], 0.0)
        loss = table["train_loss"].to_pylist()[cell.index]
        np.testing.assert_allclose(loss, alone.trace.loss[-1], rtol=1e-5)


BATCHED = {"batch_size": 2, "draws": 2, "tied": True}


@pytest.mark.parametrize(
    ("optimizer", "extra"), [("adam", {}), ("adamw", BATCHED), ("rmsprop", BATCHED), ("sgd", {})]
)
def test_padding_changes_no_random_number_and_zero_columns_stay_zero(optimizer, extra):
    plain = {"optimizer": optimizer, "steps": 6, "records": 1, "dtype": "float64"} | extra
    mesh = Mesh(np.array(jax.local_devices()[:1]), ("nets",))
    key, x = jax.random.key(3), np.random.default_rng(0).standard_normal((3, 4))

    def trained(width, rows, used):
        config = TrainConfig(width=width, sigma=0.7, lam=0.3, **plain)
        level = Level(jnp.array([0.2]), jnp.array([0.05]))
        specs = NetSpec(key[None], jnp.array([0]), jnp.array([used]), level)
        nets = init_nets(specs, 4, config)
        start = [np.asarray(w[0]) for w in nets.params]
        x_END = jnp.asarray(np.pad(x, ((0, rows - 3), (0, 0)))[None])
        weight_EN = jnp.asarray(np.pad(np.full(3, 1 / 3), (0, rows - 3))[None])
        nets, _, _ = advance_nets(nets, 0, x_END, weight_EN, config, mesh)
        return start, [np.asarray(w[0]) for w in nets.params]

    (start, padded), (plain_start, unpadded) = trained(5, 7, 2), trained(2, 3, 2)
    init_key, _ = jax.random.split(key)
    expected = init_weights(init_key, 4, 2, tied=extra.get("tied", False), dtype=jnp.float64)
    for a, b, c, d, e in zip(start, plain_start, expected, padded, unpadded, strict=False):
        np.testing.assert_array_equal(a[:, :2], c)
        np.testing.assert_array_equal(b, c)
        np.testing.assert_allclose(d[:, :2], e, atol=1e-12)
        np.testing.assert_array_equal(d[:, 2:], 0.0)
        assert np.max(np.abs(e - b)) > 1e-4


def oracle_net(seed=0, n=4, d=5, p=6):
    """A net that stores simplex-like clusters, with two collinear units, in float64."""
    mixture = separable_mixture(2, d, rank=2, beta=-1.0, alpha=0.1)
    x, labels = mixture.sample(seed, n)
    w = predict_memorization(x, 0.2, 0.01, width=p).w1
    w += 0.05 * np.random.default_rng(seed).standard_normal(w.shape)
    w[:, p - 1] = 0.7 * w[:, 0]
    return mixture, x, labels, w, 1.1 * w


def test_measures_agree_with_numpy_and_padding_does_not_show():
    mixture, x, labels, w1, w2 = oracle_net()
    held_out = mixture.sample(9, 12)[0]
    sigma, lam, key = 0.2, 0.01, jax.random.key(1)

    def measure(rows, width):
        pad = ((0, 0), (0, width - 6))
        problem = Problem(
            jnp.asarray(np.pad(x, ((0, rows - 4), (0, 0)))),
            jnp.asarray(np.pad(np.full(4, 0.25), (0, rows - 4))),
            Level(jnp.asarray(sigma), jnp.asarray(lam)),
            Blocks(*map(jnp.asarray, cluster_blocks(x, labels, 2, rows))),
        )
        truth = mixture_denoiser(mixture.means, mixture.covs, mixture.priors)
        found = jax.jit(measure_net, static_argnums=6)(
            key, np.pad(w1, pad), np.pad(w2, pad), jnp.asarray(6), problem, held_out, truth
        )
        return {name: float(value) for name, value in found.items()}

    found = measure(4, 6)
    for name, value in measure(9, 8).items():
        np.testing.assert_allclose(value, found[name], rtol=1e-9, err_msg=name)

    train_key, test_key = jax.random.split(key)
    y_train = x + sigma * np.asarray(jax.random.normal(train_key, x.shape))
    y = held_out + sigma * np.asarray(jax.random.normal(test_key, held_out.shape))
    comparison = compare_weights(w1, w2, predict_memorization(x, sigma, lam), x)
    gains = [m[0] / g[0] for m, g in zip(comparison.gains, comparison.predicted_gains, strict=True)]
    widths = np.bincount(
        compare_weights(w1, w2, predict_blocks(x, labels, (1, 1), sigma, lam), x).blocks
    )
    blocks = compare_weights(w1, w2, predict_blocks(x, labels, widths, sigma, lam), x)

    def rms(output, reference):
        return np.sqrt(np.mean((output - reference) ** 2) / np.mean(reference**2))

    def gaps(output):
        distance = np.sort(np.linalg.norm(output[:, None] - x, axis=-1), axis=1)
        return distance[:, 0] / distance[:, 1]

    f, f_train = np.asarray(denoise(w1, w2, y)), np.asarray(denoise(w1, w2, y_train))
    femp = np.asarray(empirical_denoiser(x)(y, sigma))
    fgt = np.asarray(mixture_denoiser(mixture.means, mixture.covs, mixture.priors)(y, sigma))
    expected = {
        "exact_loss": float(exact_loss(w1, w2, x, sigma, lam)),
        "train_mse": float(exact_loss(w1, w2, x, sigma, 0.0)),
        "test_mse": float(exact_loss(w1, w2, held_out, sigma, 0.0)),
        "mse_bound": 0.0,
        "live_units": comparison.live.sum(),
        "gain_min": min(gains),
        "gain_mean": np.mean(gains),
        "stored_share": comparison.stored.mean(),
        "stored_operator_error": comparison.operator_errors.mean(),
        "block_operator_error": blocks.operator_errors.mean(),
        "gap_ratio": np.median(gaps(f)),
        "gap_share": np.mean(gaps(f) < 1 / 3),
        "femp_distance": rms(f, femp),
        "femp_distance_train": rms(f_train, np.asarray(empirical_denoiser(x)(y_train, sigma))),
        "fgt_distance": rms(f, fgt),
        "femp_test_mse": np.mean(np.sum((femp - held_out) ** 2, axis=1)),
        "fgt_test_mse": np.mean(np.sum((fgt - held_out) ** 2, axis=1)),
    }
    for prefix, rows in (("train", y_train), ("test", y)):
        h = np.asarray(encode(w1, rows))
        for name, values in spikiness(h).items():
            expected[f"{prefix}_{name}"] = np.nanmean(values)
        merged = spikiness(merge_groups(h, collinear_groups(w1, w2)))["participation_ratio"]
        expected[f"{prefix}_merged_participation_ratio"] = np.nanmean(merged)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-7, atol=1e-12, err_msg=name)
    assert set(expected) | {"fgt_distance_train"} == set(MEASURES)
    # The net is neither perfect nor useless: no measure agrees by being trivial.
    assert 0.01 < found["stored_operator_error"] < 2
    assert 0.01 < found["block_operator_error"] < 2
    assert found["train_participation_ratio"] > 1.1 * found["train_merged_participation_ratio"]


def test_many_samples_are_measured_by_mehler_within_its_bound():
    mixture = separable_mixture(3, 12, rank=3, beta=-0.5, alpha=0.3)
    x = mixture.sample(0, 1200)[0]
    rng = np.random.default_rng(1)
    w1, w2 = (rng.standard_normal((12, 32)) / 12 for _ in range(2))
    w1 += rng.standard_normal((12, 1)) / 4  # close to collinear, where the expansion is slow
    weight = np.stack([np.r_[np.full(900, 1 / 900), np.zeros(300)], np.full(1200, 1 / 1200)])
    loss, bound = jax.jit(noise_free_losses)(w1, w2, x, weight, 0.3)
    exact = [float(exact_loss(w1, w2, x, 0.3, 0.0, weight_M)) for weight_M in weight]
    error = np.abs(np.asarray(loss) - exact)
    assert np.all(np.asarray(bound) < 1e-3 * np.array(exact))
    assert np.all(np.asarray(bound) > 1e-9)
    assert np.all(error <= np.asarray(bound))
    assert np.all(error > 1e-14)


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("batch_cells", [1, 7, 64, 10_000])
@pytest.mark.parametrize("memory", [5e7, 1e12])
def test_every_cell_is_packed_once(devices, batch_cells, memory):
    config = replace(TINY, n=(1, 3, 40, 100), seeds=3, p=(2, 16, 33))
    source, batches = load_source(config), []
    for process in range(3):  # each with another memory
        share = memory * (1 + process), batch_cells, process, 3
        batches += plan_batches(config, source, devices, *share)
    packed = sorted(cell for batch in batches for cell in batch.cells)
    assert packed == grid_cells(config)
    for batch in batches:
        assert batch.cost <= 3 * memory
        assert len(batch.cells) <= batch.size <= max(batch_cells, devices)
        assert batch.size % (devices * batch.group) == 0
        assert max(cell.n for cell in batch.cells) <= batch.sizes.n <= 100
        assert len({(cell.seed, cell.n) for cell in batch.cells}) <= batch.data_sets
    assert len({batch.sizes for batch in batches}) == 6
    wasted = sum(batch.size - len(batch.cells) for batch in batches)
    assert wasted < len(batches) * devices


def test_a_cell_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match=r"2 cell\(s\) of n=5, p=6 .* raise --memory_gb"):
        plan_batches(TINY, load_source(TINY), 2, 1e4, 64)


@pytest.mark.parametrize(
    "changes",
    [
        {"n": (200,), "p": (12,), "dimension": 24, "seeds": 40},
        pytest.param(
            {"n": (1000,), "p": (48,), "dimension": 64, "seeds": 8, "optimizer": "sgd"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_memory_estimate_is_that_of_the_compiled_programs(changes):
    config = replace(TINY, sigma=(0.1,), **changes)
    source, mesh = load_source(config), Mesh(np.array(jax.local_devices()[:1]), ("nets",))
    with jax.enable_x64(False):
        (batch,) = plan_batches(config, source, 1, 1e12, 256)
        settings = train_config(config, batch.sizes.p)
        nets = sweep_batch.batch_nets(batch, batch.cells, settings, mesh)
        inputs = sweep_batch.batch_inputs(batch, batch.cells, source, mesh)
        programs = sweep_batch.compile_programs(batch, nets, inputs, settings, mesh)
    used = 0
    for program in programs:
        a = program.memory_analysis()
        total = a.argument_size_in_bytes + a.output_size_in_bytes + a.temp_size_in_bytes
        used = max(used, total - a.alias_size_in_bytes)
    estimate = memory_bytes(config, batch.sizes, batch.size, batch.group, batch.data_sets, 1)
    assert estimate == batch.cost
    assert 0.5 < estimate / used < 3


def test_results_do_not_depend_on_the_packing(tiny, tmp_path):
    run_sweep(TINY, tmp_path, batch_cells=4)
    assert len(list((tmp_path / "parts").iterdir())) == 4
    assert_same(merge(tmp_path).table, tiny[1], rtol=2e-4)


def test_finished_cells_are_not_computed_again(tiny, monkeypatch):
    out, table = tiny
    monkeypatch.setattr(sweep_batch, "run_batch", None)
    # Also in another packing.
    summary = run_sweep(TINY, out, batch_cells=5)
    assert summary[:3] == (0, 16, 16)
    assert merge(out).table.equals(table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 3}, r"seeds was 2, now 3"),
        ({"sigma": (0.1,)}, r"sigma was 0\.1,0\.3, now 0\.1"),
        ({"save_weights": False}, r"save_weights was True, now False"),
        ({"learning_rate": 1e-3, "steps": 10}, r"learning_rate was .*; steps was 20, now 10"),
    ],
)
def test_a_changed_config_is_refused(tiny, changes, message):
    with pytest.raises(InputError, match=f"holds a sweep with another config .*{message}"):
        run_sweep(replace(TINY, **changes), tiny[0])


def test_changed_data_under_the_same_name_are_refused(tmp_path):
    file = tmp_path / "x.npy"
    config = replace(TINY, data=str(file))
    np.save(file, np.random.default_rng(0).standard_normal((20, 3)))
    with open_folder(tmp_path / "out", config, load_source(config), 0, 1):
        pass
    np.save(file, np.random.default_rng(1).standard_normal((20, 3)))
    with pytest.raises(InputError, match=r"another config \(data_sha256 was"):
        run_sweep(config, tmp_path / "out")


def test_a_cell_that_diverges_is_marked_and_touches_no_other(tmp_path):
    plain = {"sigma": (0.1,), "optimizer": "sgd", "schedule": "constant", "steps": 40}
    run_sweep(replace(TINY, lam=(1e-3, 1e5), **plain), tmp_path / "diverging")
    run_sweep(replace(TINY, lam=(1e-3, 2e-3), **plain), tmp_path / "converging")
    diverging, converging = (merge(tmp_path / name).table for name in ("diverging", "converging"))
    diverged = np.array(diverging["lam"].to_pylist()) == 1e5
    assert diverged.sum() == 8
    status = np.where(diverged, "nan", "ok").tolist()
    assert diverging["status"].to_pylist() == status
    note = np.where(diverged, "weights or loss not finite", "").tolist()
    assert diverging["note"].to_pylist() == note
    for name in ("train_loss", *MEASURES):
        assert np.all(np.isnan(diverging[name].to_numpy()[diverged]))
        found, expected = (t[name].to_numpy()[~diverged] for t in (diverging, converging))
        np.testing.assert_array_equal(found, expected)


def test_cells_that_fail_are_marked_and_tried_again(tiny, tmp_path, monkeypatch):
    def exhausted(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nmore")

    with monkeypatch.context() as patch:
        patch.setattr(sweep_batch, "run_batch", exhausted)
        run_sweep(TINY, tmp_path)
    table = merge(tmp_path).table
    assert table["status"].to_pylist() == ["failed"] * 16
    assert set(table["note"].to_pylist()) == {"RESOURCE_EXHAUSTED: out of memory"}
    # In another packing the failed parts stay, but count no more.
    assert run_sweep(TINY, tmp_path, batch_cells=4).computed == 16
    assert len(list((tmp_path / "parts").iterdir())) == 5
    assert_same(merge(tmp_path).table, tiny[1], rtol=2e-4)


def test_two_sweeps_at_once_in_one_folder_are_refused(tiny):
    with (tiny[0] / ".lock-0").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="another sweep is running"):
            run_sweep(TINY, tiny[0])


def test_a_damaged_part_is_named(tiny, tmp_path):
    shutil.copytree(tiny[0], tmp_path, dirs_exist_ok=True)
    (part,) = (tmp_path / "parts").iterdir()
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(InputError, match=rf"{part.name}: damaged .* delete it and run again"):
        run_sweep(TINY, tmp_path)
    part.unlink()
    assert merge(tmp_path).missing == 16


@pytest.mark.parametrize("data", ["faces", "patches", "simplex"])
def test_seeds_take_other_samples_and_never_held_out_ones(data):
    config = replace(TINY, data=data, limit=60, n=(3, 5), dimension=6)
    source = load_source(config)
    small, large = (training_samples(source, 0, n)[0] for n in (3, 5))
    other, _ = training_samples(source, 1, 5)
    assert large.shape == other.shape == (5, source.held_out.shape[1])
    assert not np.allclose(large, other)
    if data != "simplex":
        np.testing.assert_array_equal(small, large[:3])
        rows = {row.tobytes() for row in source.pool}
        assert not rows & {row.tobytes() for row in source.held_out}
        assert {row.tobytes() for row in large} <= rows


def test_float64_solves_what_float32_trained():
    config = replace(TINY, steps=2000, data="simplex", n=(3,), lam=(1e-2,), p=(6,))
    report = precision_report(config)
    assert report.solution.converged
    for name in ("exact_loss", "gain_min", "gain_mean", "stored_operator_error"):
        assert report.swept[name] != report.evaluated[name]
        assert abs(report.swept[name] - report.evaluated[name]) < 1e-4
    assert 0 < report.evaluated["exact_loss"] - report.solved["exact_loss"] < 1e-3
    assert 1e-6 < report.operator_error < 0.2
    with pytest.raises(InputError, match=r"index: the grid has cells 0 ... 3, got 4"):
        precision_report(config, 4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "out: give a folder"),
        (["--out=X", "--n=2,x"], "n: expected numbers separated by commas, got '2,x'"),
        (["--out=X", "--n=0"], "n: must be at least 1, got 0"),
        (["--out=X", "--n=4,4"], "n: a value is given twice in [4, 4]"),
        (["--out=X", "--p="], "p: give at least one value"),
        (["--out=X", "--sigma=0"], "sigma: the noise level must be finite and > 0"),
        (["--out=X", "--lam=nan"], "lam: the weight decay must be finite"),
        (["--out=X", "--seeds=0"], "seeds: must be at least 1"),
        (["--out=X", "--seeds=100000000"], "seeds: 300000000 cells, more than 1000000"),
        (["--out=X", "--optimizer=lion"], "optimizer: expected one of"),
        (["--out=X", "--batch=0"], "batch: must be at least 1"),
        (["--out=X", "--batch_cells=0"], "batch_cells: must be at least 1"),
        (["--out=X", "--memory_gb=0"], "memory_gb: must be > 0"),
        (["--out=X", "--memory_gb=1e-6"], "raise --memory_gb"),
        (["--out=X", "--data=faces", "--n=90"], "n: faces has 80 samples and 20 held out"),
        (
            ["--out=X", "--data=simplex", "--n=40"],
            "dimension: a simplex of n=40 samples needs at least 39 features",
        ),
        (["--out=X", "--data=missing.npy"], "missing.npy: no such file"),
        (["--out=X", "--unknown"], "Unknown command line flag 'unknown'"),
        (["--out=X", "stray"], "unexpected argument 'stray'"),
        (["--out=X", "--num_processes=2"], "coordinator: give --coordinator"),
        (["--out=X", "--merge"], "holds no sweep"),
        (["--out=/dev/null/X"], "cannot write to /dev/null/X"),
    ],
)
def test_bad_input_is_one_line_and_status_2(options, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert not list(tmp_path.glob("X/parts/*"))


# The command, for real. All runs share their compiled programs through JAX's cache.
OPTIONS = (
    "--data=simplex", "--dimension=6", "--n=2,3", "--seeds=4", "--sigma=.1,.3", "--p=3,5",
    "--steps=1000", "--batch_cells=2", "--held_out=16",
)  # fmt: skip
CELLS = 32


class Command:
    """Runs ``python -m dae_theory.sweep`` in an environment of its own."""

    def __init__(self, cache):
        self.cache = cache

    def start(self, out, *options, devices=1, before=":", stderr=subprocess.PIPE):
        env = os.environ | {
            "XLA_FLAGS": f"{QUICK_TO_COMPILE} --xla_force_host_platform_device_count={devices}",
            "PYTHONPATH": str(ROOT),
            "JAX_COMPILATION_CACHE_DIR": str(self.cache),
            "TERM": "xterm",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        return subprocess.Popen(
            ["bash", "-c", f'{before}; exec "$0" "$@"', sys.executable, "-m", "dae_theory.sweep",
             f"--out={out}", *options],
            env=env, text=True, stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip

    def run(self, out, *options, **start):
        process = self.start(out, *options, **start)
        stdout, stderr = process.communicate(timeout=120)
        return process.returncode, stdout, stderr


@pytest.fixture(scope="module")
def command(compiled):
    return Command(compiled)


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    """The table of a run on one device that nothing happened to."""
    out = tmp_path_factory.mktemp("uninterrupted")
    status, stdout, stderr = command.run(out, *OPTIONS)
    assert (status, stderr) == (0, "")
    assert f"{CELLS} cells to compute, 0 kept, in 16 batches on 1 cpu devices" in stdout
    assert f"results.parquet: {CELLS} cells: {CELLS} ok" in stdout
    return pq.read_table(out / "results.parquet")


def snapshot(folder):
    return {
        path.name: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in folder.glob("*.parquet")
    }


def test_killed_and_started_again_it_goes_on(command, uninterrupted, tmp_path):
    process = command.start(tmp_path, *OPTIONS)
    while len(list(tmp_path.glob("parts/*.parquet"))) < 3 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    before = snapshot(tmp_path / "parts")
    assert 3 <= len(before) < 16
    assert not (tmp_path / "results.parquet").exists()
    leftover = tmp_path / "parts" / ".000031-x.parquet.0.tmp"
    leftover.write_bytes(b"half a part")
    status, stdout, _ = command.run(tmp_path, *OPTIONS)
    assert status == 0
    kept = 2 * len(before)
    assert f"{CELLS - kept} cells to compute, {kept} kept" in stdout
    assert not leftover.exists()
    after = snapshot(tmp_path / "parts")
    assert len(after) == 16
    assert before.items() <= after.items()
    # The packing is the same, and so is every bit.
    found = columns(pq.read_table(tmp_path / "results.parquet"))
    for name, values in columns(uninterrupted).items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_eight_devices_give_the_same_numbers(command, uninterrupted, tmp_path):
    status, stdout, stderr = command.run(tmp_path, *OPTIONS, devices=8)
    assert (status, stderr) == (0, "")
    assert "on 8 cpu devices" in stdout
    assert_same(pq.read_table(tmp_path / "results.parquet"), uninterrupted, rtol=1e-3)


def test_two_processes_share_the_cells_and_merge(command, uninterrupted, tmp_path):
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [*OPTIONS, f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    processes = [command.start(tmp_path, *options, f"--process_id={i}") for i in range(2)]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for stdout, _ in outputs:
        assert f"{CELLS // 2} cells to compute, 0 kept, in 8 batches" in stdout
    assert not (tmp_path / "results.parquet").exists()
    status, stdout, _ = command.run(tmp_path, "--merge", "--csv")
    assert status == 0
    assert f"results.csv: {CELLS} cells: {CELLS} ok" in stdout
    assert_same(pq.read_table(tmp_path / "results.parquet"), uninterrupted, rtol=1e-3)


def test_no_room_for_a_part_is_one_line_and_keeps_the_rest(command, uninterrupted, tmp_path):
    out = tmp_path / "out"

    status, _, stderr = command.run(out, *OPTIONS, before="ulimit -f 4")
    assert status == 2
    assert stderr.strip().splitlines()[-1].startswith(f"error: out: cannot write to {out} (File ")
    assert sorted(p.name for p in out.rglob("*") if p.is_file()) == [".lock-0", "config.json"]


def test_a_full_disk_is_one_line_and_the_run_goes_on_with_room(command, uninterrupted, tmp_path):
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=80k", "tmpfs", mounted]).returncode:
        pytest.skip("no permission to mount a small file system")
    try:
        status, _, stderr = command.run(mounted, *OPTIONS)
        assert status == 2
        assert stderr == (
            f"error: out: cannot write to {mounted} (No space left on device); what is finished "
            "is kept: make room and run again\n"
        )
        before = snapshot(mounted / "parts")
        assert 1 <= len(before) < 16
        assert not list(mounted.glob("**/.*.tmp"))
        assert len(read_parts(mounted)) == 2 * len(before)
        subprocess.run(["mount", "-o", "remount,size=4m", mounted], check=True)
        status, stdout, _ = command.run(mounted, *OPTIONS)
        assert status == 0
        assert f"{2 * len(before)} kept" in stdout
        assert before.items() <= snapshot(mounted / "parts").items()
        assert_same(pq.read_table(mounted / "results.parquet"), uninterrupted, rtol=1e-6)
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_terminal_shows_a_bar_with_cells_per_second(command, uninterrupted, tmp_path):
    seen, terminal = b"", pty.openpty()
    process = command.start(tmp_path, *OPTIONS, stderr=terminal[1])
    os.close(terminal[1])
    with contextlib.suppress(OSError):  # the other end closes
        while chunk := os.read(terminal[0], 4096):
            seen += chunk
    os.close(terminal[0])
    stdout, _ = process.communicate(timeout=60)
    assert process.returncode == 0, seen
    assert re.search(rb"\d+/32 .*\d cells/s", seen)
    assert b"\x1b" not in stdout.encode()
