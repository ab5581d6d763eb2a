"""The scaling benchmark: its arithmetic, and a toy run of the command; no timing is asserted."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import scaling
from dae_theory.sweep.plan import SweepConfig
from figures.make import main as make_figures

CONFIG = SweepConfig(n=(16,), p=(24,), sigma=(0.1,), dimension=40, steps=100)


def report_for(seconds, cells=(16, 64, 256)) -> dict:
    sweeps = [
        {"cells": c, "wall_s": s, "warm_s": [s], "startup_s": 3.0, "peak_mib": 500.0 + c}
        | {"load_average": 0.0}
        for c, s in zip(cells, seconds, strict=True)
    ]
    return scaling.report_of(replace(CONFIG, seeds=cells[-1]), sweeps, 100.0)


def test_flop_of_a_step_are_those_that_xla_counts():
    def loss(weights, x_ND):
        w1_DP, w2_DP = weights
        return jnp.sum((jnp.maximum(x_ND @ w1_DP, 0) @ w2_DP.T - x_ND) ** 2)

    weights = (jnp.ones((40, 24)), jnp.ones((40, 24)))
    lowered = jax.jit(jax.grad(loss)).lower(weights, jnp.ones((16, 40)))
    counted = lowered.compile().cost_analysis()["flops"]
    # The rest is elementwise: N P and N D.
    assert 0 <= counted - scaling.step_flops(CONFIG) < 10 * 16 * (24 + 40)


def test_bytes_of_a_step_by_hand():
    weights, samples, hidden = 2 * 40 * 24, 16 * 40, 16 * 24
    # weights, gradients, two moments of Adam; noise, residual; h and its gradient.
    floats = 2 * (4 * weights + 2 * samples + 2 * hidden) + samples
    assert scaling.step_bytes(CONFIG) == 4 * floats
    tied = replace(CONFIG, tied=True, optimizer="sgd")
    assert scaling.step_bytes(CONFIG) - scaling.step_bytes(tied) == 4 * 2 * (4 - 1) * weights


def test_minibatch_and_draws_set_the_rows():
    for count in (scaling.step_flops, scaling.step_bytes):
        assert count(replace(CONFIG, batch_size=8)) < count(CONFIG)
        assert count(replace(CONFIG, batch_size=8, draws=2)) == count(CONFIG)


def test_padding_fills_up_the_tiles():
    tile, full = (8, 128), replace(CONFIG, p=(128,), dimension=128)
    assert scaling.step_flops(CONFIG, tile) == scaling.step_flops(full, tile)
    for count in (scaling.step_flops, scaling.step_bytes):
        assert count(full, tile) == count(full)
        assert count(CONFIG, tile) > count(CONFIG)


def test_roofline_is_the_slower_of_arithmetic_and_memory():
    slow_memory = scaling.Device("x", 2, 1e30, 1e9, (1, 1))
    slow_arithmetic = slow_memory._replace(flops=1e9, bytes=1e30)
    found = scaling.roofline(CONFIG, slow_memory)
    assert found["limit"] == "memory"
    assert found["cells_per_s"] == pytest.approx(2e9 / scaling.step_bytes(CONFIG) / 100)
    found = scaling.roofline(CONFIG, slow_arithmetic)
    assert found["limit"] == "arithmetic"
    assert found["cells_per_s"] == pytest.approx(2e9 / scaling.step_flops(CONFIG) / 100)


@pytest.mark.parametrize("power", [0.8, 1.0, 1.3])
def test_exponent_of_a_power_law(power):
    cells = np.array([16, 64, 256])
    report = report_for(0.1 * cells**power)
    assert report["exponent"] == pytest.approx(power)


def test_rates_follow_from_the_largest_sweep():
    report = report_for([1.0, 4.0, 16.0])
    assert report["cells_per_s"] == 16
    assert report["many_cells_s"] == pytest.approx(3 + 10_000 / 16)
    assert report["memory_growth"] == pytest.approx(756 / 516)
    flops = 16 * 100 * 10 * 16 * 24 * 40
    assert report["gflops"] == pytest.approx(flops / 1e9)
    assert report["share_of_matmul_peak"] == pytest.approx(flops / 1e11)
    text = "\n".join(scaling.lines_of(report))
    assert "cells^1.000" in text
    assert "A100, on paper" in text


@pytest.mark.slow
def test_command_measures_each_size_apart_and_its_figure_is_drawn(tmp_path, capsys):
    options = ["--cells=2,4", "--steps=20", "--n=4", "--p=4", "--dimension=8", "--repeats=1"]
    assert scaling.main(["scaling", *options, f"--out={tmp_path}"]) == 0
    assert "time ~ cells^" in capsys.readouterr().out
    report = json.loads((tmp_path / "scaling.json").read_text())
    assert [sweep["cells"] for sweep in report["sweeps"]] == [2, 4]
    for sweep in report["sweeps"]:
        assert len(sweep["warm_s"]) == 1
        assert sweep["peak_mib"] > 100
        assert min(sweep["wall_s"], sweep["cold_s"]) > 0
    assert make_figures(["make", "--all", f"--from={tmp_path}", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "scaling.png").stat().st_size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--out=DIR"),
        (["--out=x", "--cells=16"], "at least two"),
        (["--out=x", "--cells=64,16"], "increasing"),
        (["--out=x", "--cells=a,b"], "numbers separated by commas"),
        (["--out=x", "--repeats=0"], "repeats"),
        (["--out=x", "--p=0"], "p"),
        (["stray"], "unexpected argument"),
    ],
)
def test_bad_options_are_exit_2(arguments, message, capsys):
    assert scaling.main(["scaling", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
