"""Figures of a small run whose nets are the predictions themselves, scaled by a known factor."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest

from dae_theory.checks import InputError
from dae_theory.data.mixtures import simplex
from dae_theory.memorization.copies import COPY_RATIO
from dae_theory.theory.closed_forms import predict_memorization
from dae_theory.theory.problem import Problem
from figures import (
    fig_copies,
    fig_denoisers,
    fig_detectors,
    fig_gains,
    fig_rays,
    fig_reach,
    fig_remainder,
    fig_representations,
    fig_spectrum,
    fig_stationarity,
    fig_steering,
    fig_stored_columns,
)
from figures.make import draw_one, known_figures, main, make
from figures.results import load
from figures.style import RC
from proofs_checks.config import RunConfig
from proofs_checks.generalize import experiment as generalize
from proofs_checks.generalize.experiment import Generalization
from proofs_checks.hybrid import experiment as hybrid
from proofs_checks.hybrid.experiment import Hybrid
from proofs_checks.memorize.experiment import Memorization, gaussian_inputs
from proofs_checks.nets import Nets
from proofs_checks.report import as_dict, write_files

IDS = {
    *("census", "copies", "denoisers", "detectors", "extraction", "gains", "reach", "remainder"),
    *("rays", "representations", "spectrum", "stationarity", "steering", "stored-columns"),
}
ELSEWHERE = {"phases", "scaling", "ladder", "prompt_free", "deep_steering"}  # in files of their own
OF_IMAGES = {"extraction", "stored-columns"}  # they need the memorize regime only
FACTORS = (0.998, 1.0, 1.002)  # of the columns, one for each "seed": gains times their squares
N_MEMORIZED = 4
ROOT = Path(__file__).resolve().parents[2]


def silent(what: str, done: int, total: int) -> None:
    pass


def scaled_nets(w1: np.ndarray, w2: np.ndarray) -> Nets:
    """Nets with known gains."""
    w1, w2 = (np.stack([factor * w for factor in FACTORS]) for w in (w1, w2))
    return Nets(w1, w2, tuple(range(len(FACTORS))))


def split_first_unit(w_DP: np.ndarray) -> np.ndarray:
    """The first column split in two collinear ones (0.8, 0.6), the second part in the last."""
    w_DP = w_DP.copy()
    w_DP[:, -1] = 0.6 * w_DP[:, 0]
    w_DP[:, 0] *= 0.8
    return w_DP


def memorize_experiment(images: bool = True) -> Memorization:
    dataset = simplex(N_MEMORIZED, 16)
    if images:
        dataset = replace(dataset, image_shape=(4, 4), offset=np.full(16, 0.5))
    problem = Problem(dataset.x, 0.05, 1e-3)
    unseen = gaussian_inputs(dataset.x)
    prediction = predict_memorization(dataset.x, problem.sigma, problem.lam, 10)
    nets = scaled_nets(split_first_unit(prediction.w1), split_first_unit(prediction.w2))
    return Memorization(problem, problem, 10, unseen, dataset, "", replaced=nets)


def generalize_experiment() -> Generalization:
    experiment = generalize.build(RunConfig("generalize", n=60), silent).draws[0]
    p, exemplars = experiment.problem, experiment.exemplars
    stored = predict_memorization(exemplars, p.sigma, p.lam, sum(p.widths))
    return replace(
        experiment,
        replaced=scaled_nets(experiment.prediction.w1, experiment.prediction.w2),
        replaced_memorizing=scaled_nets(stored.w1, stored.w2),
    )


def hybrid_experiment() -> Hybrid:
    experiment = hybrid.build(RunConfig("hybrid", n=60), silent).draws[0]
    nets = scaled_nets(experiment.prediction.w1, experiment.prediction.w2)
    return replace(experiment, replaced=nets)


def certified_arrays() -> dict[str, np.ndarray]:
    """Made-up certificates: errors that follow exp(−z²/2), eigenvalues 0 to 4."""
    z = np.linspace(2, 6, 9)
    arrays = {}
    for name, scale in zip(fig_remainder.PROBLEMS, (1.0, 0.1, 0.01), strict=True):
        curve = scale * np.exp(-(z**2) / 2)
        kinds = dict.fromkeys(fig_remainder.PANELS, curve) | {"z": z}
        values, counts = np.arange(5.0), np.array([3, 1, 1, 1, 2])
        spectrum = (values, counts, values, counts, np.array(1.0))
        kinds |= {
            f"spectrum_{part}": value
            for part, value in zip(fig_spectrum.PARTS, spectrum, strict=True)
        }
        arrays |= {f"{name}/{key}": value for key, value in kinds.items()}
    for name in fig_reach.PANELS:
        sweep = {"values": np.arange(3.0), "z": np.array([[4, 5], [2, 3], [1, 2.0]])}
        sweep["error"] = np.exp(-sweep["z"])
        arrays |= {f"reach/{name}/{key}": value for key, value in sweep.items()}
    kinds = np.arange(24) % 4
    minima = {"cosine": np.repeat([-0.2, 0.0, 0.3], 8), "ratio": np.tile([1, 4], 12), "kind": kinds}
    minima |= {"excess": 0.1 * kinds, "memorizes_output": kinds < 2}
    arrays |= {f"census/{key}": value for key, value in minima.items()}
    gains = np.linspace(1, 0, 3)[:, None, None] * np.ones((3, 2, 4))
    decay = {"values": np.arange(3.0), "gains": gains, "predicted_gains": gains}
    return arrays | {f"reach/lambda/{key}": value for key, value in decay.items()}


def diffusion_arrays() -> dict[str, np.ndarray]:
    """Made-up gap ratios, of which the i-th run has i/8 copies, and errors like σ^1.5."""
    arrays = {}
    for index, name in enumerate(fig_copies.NAMES):
        arrays[f"deep/gap_ratio/{name}"] = np.tile(np.arange(8) >= index, (3, 1)) * 0.8 + 0.1
    sigmas = np.array([0.1, 1.0])
    for points in fig_denoisers.PANELS:
        for index, name in enumerate(fig_denoisers.LINES):
            errors = 196 * (1 + index) * sigmas**1.5 * np.ones((3, 1))
            arrays[f"denoisers/errors/{points}/{name}"] = errors
    for index, name in enumerate(fig_rays.PANELS):
        arrays[f"relu/{name}/cosines"] = np.full((3, 4), 0.5 + 0.1 * index)
        arrays[f"relu/{name}/lengths"] = np.linspace(0.5, 2, 12).reshape(3, 4)
    return arrays | {"denoisers/sigmas": sigmas}


def detector_arrays() -> dict[str, np.ndarray]:
    """Made-up areas: 13 settings, measured a little above what was predicted."""
    predicted = np.linspace(0, 0.96, 13)
    columns = {
        "predicted": predicted,
        "measured": predicted + 0.02,
        "low": predicted - 0.01,
        "high": predicted + 0.04,
        "predicted_tpr": predicted**2,
        "measured_tpr": predicted**2 - 0.01,
        "stored_units": 1.0 + np.arange(13) % 4,
        "cluster_units": np.full(13, 3.0),
        "norm": np.array([0.97, 1.0, 1.05])[np.arange(13) % 3],
    }
    return {f"std/{name}": column for name, column in columns.items()}


def steering_arrays() -> dict[str, np.ndarray]:
    """Made-up responses of three nets, measured a little above what was predicted."""
    strengths = np.linspace(-0.5, 1.5, 9)
    predicted = np.tanh(np.outer([1.0, 2.0, 3.0], strengths))
    curves = {"strengths": strengths, "predicted": predicted, "measured": predicted + 0.02}
    arrays = {
        f"{part}/{name}": array
        for part in ("clusters", "shared", "pairs")
        for name, array in curves.items()
    }
    return arrays | {"pairs/cosines": np.array([-0.3, -0.4, -0.5])}


def write_run(folder: Path, arrays: dict[str, dict[str, np.ndarray]]) -> Path:
    """results.npz and report.json of these regimes' arrays, without any claims."""
    flat = {f"{name}/{key}": value for name, own in arrays.items() for key, value in own.items()}
    settings, data = {name: {} for name in arrays}, dict.fromkeys(arrays, ())
    report = as_dict([], RunConfig("all"), "made up", settings, data, 0.0)
    write_files(folder, report, flat)
    return folder


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    arrays = {
        "memorize": memorize_experiment().arrays,
        "generalize": generalize_experiment().arrays,
        "hybrid": hybrid_experiment().arrays,
        "certify": certified_arrays(),
        "diffusion": diffusion_arrays(),
        "detect": detector_arrays(),
        "steer": steering_arrays(),
    }
    return write_run(tmp_path_factory.mktemp("run"), arrays)


@pytest.fixture(scope="module")
def memorize_dir(tmp_path_factory) -> Path:
    """A run of one regime, on samples that are not images."""
    folder = tmp_path_factory.mktemp("memorize")
    return write_run(folder, {"memorize": memorize_experiment(images=False).arrays})


@pytest.fixture(scope="module")
def results(run_dir):
    return load(run_dir)


@pytest.fixture(autouse=True)
def paper_style():
    with mpl.rc_context(RC):
        yield


def run_command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "figures.make", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )


def plotted(axes) -> np.ndarray:
    """(n, 2) points of all error bars of a panel."""
    return np.concatenate([container[0].get_xydata() for container in axes.containers])


# --- files -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drawn(run_dir, tmp_path_factory):
    """A folder with every figure of the run."""
    folder = tmp_path_factory.mktemp("figures")
    make(None, load(run_dir), folder)
    return folder


def test_every_figure_is_written(drawn):
    names = sorted(path.name for path in drawn.iterdir())
    assert names == sorted(f"{figure_id}.{kind}" for figure_id in IDS for kind in ("pdf", "png"))
    for name in names:
        content = (drawn / name).read_bytes()
        assert content.startswith(b"%PDF" if name.endswith("pdf") else b"\x89PNG")
        assert len(content) > 2000


FEW = {"remainder", "stored-columns"}  # lines and images


@pytest.mark.parametrize(
    "figure_id",
    [pytest.param(name, marks=[] if name in FEW else pytest.mark.slow) for name in sorted(IDS)],
)
def test_a_figure_drawn_again_has_the_same_bytes(drawn, run_dir, tmp_path, figure_id):
    for path in draw_one(known_figures()[figure_id], load(run_dir), tmp_path):
        assert path.read_bytes() == (drawn / path.name).read_bytes()


def test_figures_depend_on_the_data(run_dir, tmp_path, results):
    changed = replace(
        results, arrays=results.arrays | {"memorize/w1": 0.9 * results["memorize/w1"]}
    )
    same, other = (
        draw_one(fig_gains, r, tmp_path / name)[1].read_bytes()
        for r, name in ((results, "same"), (changed, "other"))
    )
    assert same != other


def test_known_figures_have_what_make_relies_on():
    known = known_figures()
    assert set(known) == IDS | ELSEWHERE
    for figure_id, module in known.items():
        assert module.__name__ == f"figures.fig_{figure_id.replace('-', '_')}"
        assert module.__doc__
        assert {key.split("/")[0] for key in module.NEEDS} == set(module.REGIMES)


@pytest.mark.parametrize("figure_id", sorted(IDS - OF_IMAGES))  # images have no axes
def test_every_axis_has_a_label(figure_id, results):
    figure = known_figures()[figure_id].draw(results)
    for axes in figure.axes:
        shows_ticks = axes.xaxis.get_tick_params().get("labelbottom", True)
        assert axes.get_ylabel()
        assert axes.get_xlabel() or not shows_ticks


@pytest.mark.parametrize("figure_id", sorted(IDS))
def test_figures_fit_the_page(figure_id, results):
    width = known_figures()[figure_id].draw(results).get_size_inches()[0]
    assert width in (3.3, 6.8)


# --- detectors -------------------------------------------------------------------------------


def test_detectors_shows_every_setting_once_beside_the_identity_line(results):
    figure = fig_detectors.draw(results)
    for axes, name, above in zip(figure.axes, ("", "_tpr"), (0.02, -0.01), strict=True):
        points = plotted(axes)
        assert len(points) == 13
        predicted = np.sort(points[:, 0])
        np.testing.assert_allclose(predicted, results[f"detect/std/predicted{name}"])
        np.testing.assert_allclose(points[:, 1] - points[:, 0], above)
        line = axes.lines[0].get_xydata()
        np.testing.assert_array_equal(line[:, 0], line[:, 1])
        assert len(axes.containers) == 6


# --- steering --------------------------------------------------------------------------------


def test_steering_shows_points_of_every_net_beside_its_line(results):
    within, across = fig_steering.draw(results).axes
    for axes, parts in ((within, ("clusters", "shared")), (across, ("pairs",))):
        points = [line for line in axes.lines if line.get_marker() == "o"]
        lines = [
            line for line in axes.lines if line.get_marker() == "None" and len(line.get_xdata())
        ]
        assert (len(points), len(lines)) == (len(parts), 3 * len(parts))
        for part, line in zip(parts, points, strict=True):
            expected = results[f"steer/{part}/predicted"].ravel() + 0.02
            np.testing.assert_allclose(line.get_ydata(), expected)


# --- gains -----------------------------------------------------------------------------------


def test_gains_shows_every_gain_once_in_each_panel(results):
    figure = fig_gains.draw(results)
    generalizing = int(results["generalize/widths"].sum())
    duplicates = int(results["hybrid/duplicated"].sum())
    counts = [len(container[0].get_xdata()) for container in figure.axes[0].containers]
    assert counts == [N_MEMORIZED, generalizing, duplicates]
    assert len(plotted(figure.axes[1])) == sum(counts)


def test_gains_of_the_prediction_lie_on_the_identity_line(results):
    exact = {}
    for regime in ("memorize", "generalize", "hybrid"):
        exact |= {f"{regime}/{w}": results[f"{regime}/{w}"][1:2] for w in ("w1", "w2")}
    figure = fig_gains.draw(replace(results, arrays=results.arrays | exact))
    points = plotted(figure.axes[0])
    np.testing.assert_allclose(points[:, 1], points[:, 0], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(plotted(figure.axes[1])[:, 1], 0, atol=1e-8)


def test_gains_has_an_identity_line_and_units(results):
    axes = fig_gains.draw(results).axes
    lines = [line for line in axes[0].lines if line.get_label() == "theory: equal"]
    assert len(lines) == 1
    np.testing.assert_array_equal(lines[0].get_xdata(), lines[0].get_ydata())
    assert axes[0].get_xlim() == axes[0].get_ylim()
    assert "dimensionless" in axes[0].get_xlabel()
    assert "%" in axes[1].get_ylabel()


def test_gains_are_those_of_the_nets(results):
    for series in fig_gains.all_series(results):
        assert series.used == series.total == len(FACTORS)
        for gain in series.gains:
            np.testing.assert_allclose(
                gain.measured, gain.predicted * np.square(FACTORS), rtol=1e-6
            )


def test_gains_leave_out_nets_with_a_unit_on_two_clusters(results):
    w1 = results["generalize/w1"].copy()
    w1[0, :, 0] = results["generalize/exemplars"][0] + 1.5 * results["generalize/exemplars"][1]
    changed = replace(results, arrays=results.arrays | {"generalize/w1": w1})
    series = fig_gains.block_gains(changed)
    assert (series.used, series.total) == (len(FACTORS) - 1, len(FACTORS))
    assert all(len(gain.measured) == len(FACTORS) - 1 for gain in series.gains)


def test_gains_above_one_stay_in_sight(results):
    arrays = {f"memorize/{w}": 1.1 * results[f"memorize/{w}"] for w in ("w1", "w2")}
    axes = fig_gains.draw(replace(results, arrays=results.arrays | arrays)).axes[0]
    points = plotted(axes)
    assert points[:, 1].min() < -0.1
    assert points[:, 1].min() > axes.get_ylim()[0]


def test_gains_of_fewer_units_than_samples_are_left_out(results):
    arrays = {f"memorize/{w}": results[f"memorize/{w}"][:, :, :3] for w in ("w1", "w2")}
    series = fig_gains.memorized_gains(replace(results, arrays=results.arrays | arrays))
    assert series.gains == []


# --- the other figures -----------------------------------------------------------------------


def test_copies_shows_the_share_of_copies(results):
    (axes,) = fig_copies.draw(results).axes
    lines = {line.get_label(): line for line in axes.lines}
    for index, (label, *_) in enumerate(fig_copies.NAMES.values()):
        share, values = lines[label].get_ydata(), lines[label].get_xdata()
        assert share[np.searchsorted(values, COPY_RATIO)] == pytest.approx(index / 8)
        assert share[-1] == 1


def test_rays_shows_every_sample(results):
    for index, axes in enumerate(fig_rays.draw(results).axes):
        points = axes.lines[-1].get_xydata()
        np.testing.assert_allclose(points[:, 0], np.linspace(0.5, 2, 12))
        np.testing.assert_allclose(points[:, 1], 0.5 + 0.1 * index)


def test_denoisers_shows_errors_relative_to_the_noise(results):
    for axes in fig_denoisers.draw(results).axes:
        for index, (label, *_) in enumerate(fig_denoisers.LINES.values()):
            (line,) = (line for line in axes.lines if line.get_label() == label)
            expected = (1 + index) * np.array([0.1, 1.0]) ** -0.5
            np.testing.assert_allclose(line.get_ydata(), expected)


def test_stored_columns_takes_the_strongest_unit_of_each_sample(results):
    w1, w2 = results.pairs("memorize")[0]
    units = fig_stored_columns.strongest_units(w1, w2, results["memorize/x"])
    assert units == [0, 1, 2, 3]  # unit 9 also stores sample 0, but is the smaller part
    assert fig_stored_columns.strongest_units(
        np.delete(w1, 2, 1), np.delete(w2, 2, 1), results["memorize/x"]
    ) == [0, 1, None, 2]


def test_stored_columns_prints_a_cosine_under_each_column(results):
    figure = fig_stored_columns.draw(results)
    assert len(figure.axes) == 3 * N_MEMORIZED
    texts = [axes.get_xlabel() for axes in figure.axes[-N_MEMORIZED:]]
    assert [text.split()[-1] for text in texts] == ["1.0000"] * N_MEMORIZED
    for axes in figure.axes[N_MEMORIZED:]:
        low, high = axes.images[0].get_clim()
        assert low == -high


@pytest.mark.parametrize(("scale", "stretched"), [(0.5, False), (100.0, True)])
def test_stored_columns_adds_the_offset_back(scale, stretched, results):
    x_ND = scale * results["memorize/x"]
    figure = fig_stored_columns.draw(replace(results, arrays=results.arrays | {"memorize/x": x_ND}))
    shown = np.ravel(figure.axes[0].images[0].get_array())
    image = x_ND[0] + 0.5
    expected = (image - image.min()) / np.ptp(image) if stretched else image
    np.testing.assert_allclose(shown, expected, atol=1e-12)


def test_stored_columns_of_other_data_are_curves(memorize_dir):
    results = load(memorize_dir)
    figure = fig_stored_columns.draw(results)
    assert len(figure.axes) == N_MEMORIZED
    for axes in figure.axes:
        sample, column = (line.get_ydata() for line in axes.lines)
        np.testing.assert_allclose(column, sample, atol=1e-9)


def test_stored_columns_says_what_is_not_stored(results):
    arrays = {f"memorize/{w}": np.delete(results[f"memorize/{w}"], 2, 2) for w in ("w1", "w2")}
    figure = fig_stored_columns.draw(replace(results, arrays=results.arrays | arrays))
    assert figure.axes[-2].get_xlabel() == "not stored"


def test_representations_tell_one_unit_from_many(results):
    y = fig_representations.noised_copies(results["generalize/exemplars"], 0.05)
    memorizing = fig_representations.statistics(results.pairs("generalize", "memorizing_"), y)
    generalizing = fig_representations.statistics(results.pairs("generalize"), y)
    assert np.median(memorizing["units"]) == pytest.approx(1, abs=0.01)
    assert np.median(generalizing["units"]) > 2
    assert len(memorizing["std"]) == len(FACTORS) * len(y)


def test_representations_sort_collinear_units_together():
    h, groups = np.array([0.0, 3.0, 2.0, 2.9]), np.array([-1, 0, 1, 1])
    order = fig_representations.sorted_units(h, groups)
    assert order.tolist() == [3, 2, 1, 0]


def test_representations_histograms_sum_to_one(results):
    panels = [axes for axes in fig_representations.draw(results).axes if axes.get_legend()]
    assert len(panels) == 2
    for axes in panels:
        assert len(axes.patches) == 2
        for patch in axes.patches:
            heights = patch.get_path().vertices[1 : 2 * fig_representations.BINS : 2, 1]
            assert heights.sum() == pytest.approx(1)


def test_stationarity_line_passes_through_the_middle_point(results):
    figure = fig_stationarity.draw(results)
    for axes in figure.axes:
        dashed = [
            line for line in axes.lines if line.get_linestyle() == "--" and len(line.get_xdata())
        ]
        points = [line for line in axes.lines if line.get_linestyle() == "None"]
        assert len(dashed) == len(points) == 2
        for line, measured in zip(dashed, points, strict=True):
            middle = len(measured.get_xdata()) // 2
            assert line.get_ydata()[middle] == pytest.approx(measured.get_ydata()[middle])
        assert axes.get_yscale() == "log"
        assert "dimensionless" in axes.get_ylabel()
    slope = np.polyfit(*(np.log(data) for data in dashed[0].get_data()), 1)[0]
    assert slope == pytest.approx(1)


# --- the command -----------------------------------------------------------------------------


def test_list_prints_every_id(capsys):
    assert main(["make", "--list"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == IDS | ELSEWHERE


def test_one_figure_prints_its_files(run_dir, tmp_path, capsys):
    arguments = ["--figure=stationarity", f"--from={run_dir}", f"--out={tmp_path}"]
    assert main(["make", *arguments]) == 0
    printed = capsys.readouterr().out.split()
    assert printed == [str(tmp_path / f"stationarity.{kind}") for kind in ("pdf", "png")]
    assert all(Path(path).stat().st_size for path in printed)


def test_all_leaves_out_figures_without_data(memorize_dir, tmp_path, capsys):
    assert main(["make", "--all", f"--from={memorize_dir}", f"--out={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("left out: ") for line in lines) == len(IDS - OF_IMAGES)
    assert {path.stem for path in tmp_path.iterdir()} == OF_IMAGES


def test_missing_arrays_are_named(results):
    arrays = {k: v for k, v in results.arrays.items() if k != "generalize/exemplars"}
    with pytest.raises(InputError, match="generalize/exemplars"):
        draw_one(fig_representations, replace(results, arrays=arrays), Path("unused"))


def test_missing_regime_is_exit_2(memorize_dir, tmp_path):
    done = run_command("--figure=gains", f"--from={memorize_dir}", f"--out={tmp_path}")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "generalize, hybrid" in done.stderr


def test_unknown_figure_is_exit_2_with_the_known_ones(tmp_path, capsys):
    assert main(["make", "--figure=nonsense", f"--out={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert all(figure_id in said for figure_id in IDS)


def test_truncated_results_are_exit_2(run_dir, tmp_path, capsys):
    whole = (run_dir / "results.npz").read_bytes()
    (tmp_path / "results.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "report.json").write_bytes((run_dir / "report.json").read_bytes())
    assert main(["make", "--all", f"--from={tmp_path}", f"--out={tmp_path / 'out'}"]) == 2
    said = capsys.readouterr().err
    assert "truncated" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "choose either"),
        (["--all", "--figure=gains"], "choose either"),
        (["--all"], "--out=DIR"),
        (["--all", "--out=x", "--from=nowhere"], "no such folder"),
        (["--all", "stray"], "unexpected argument"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_bad_options_are_exit_2(arguments, message, capsys):
    assert main(["make", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.parametrize(
    "content",
    ["", '{"schema": 1, "claims": [', "[]", json.dumps({"schema": 99}), json.dumps({"schema": 2})],
)
def test_damaged_reports_are_refused(content, run_dir, tmp_path):
    (tmp_path / "results.npz").write_bytes((run_dir / "results.npz").read_bytes())
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(InputError, match=r"report\.json"):
        load(tmp_path)


def test_without_from_the_regime_is_run_first(monkeypatch, run_dir, tmp_path):
    commands = []

    def fake_run(command, check):
        commands.append(command)
        target = tmp_path / "run"
        target.mkdir()
        for name in ("results.npz", "report.json"):
            (target / name).write_bytes((run_dir / name).read_bytes())
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr("figures.make.subprocess.run", fake_run)
    assert main(["make", "--figure=stored-columns", f"--out={tmp_path}", "--quick"]) == 0
    assert commands[0][2:] == [
        "proofs_checks.run",
        "--regime=memorize",
        f"--out={tmp_path / 'run'}",
        "--quick",
    ]
    assert (tmp_path / "stored-columns.png").is_file()


# --- certificates ----------------------------------------------------------------------------


def test_spectrum_counts_the_zeros_and_draws_them_at_the_edge(results):
    axes = fig_spectrum.draw(results).axes[0]
    (measured,) = (line for line in axes.lines if line.get_marker() == "o")
    assert measured.get_label() == "exact, 3 of 8 zero"
    assert np.sum(measured.get_ydata() == fig_spectrum.LOWEST) == 3
    assert np.array_equal(np.sort(measured.get_ydata())[3:], [1, 2, 3, 4, 4])


def test_remainder_follows_its_gaussian(results):
    for axes in fig_remainder.draw(results).axes:
        dashed = [
            line
            for line in axes.lines
            if len(line.get_xdata()) == 9 and line.get_linestyle() == "--"
        ]
        points = [
            line
            for line in axes.lines
            if len(line.get_xdata()) == 9 and line.get_linestyle() == "None"
        ]
        for line, point in zip(dashed, points, strict=True):
            assert np.allclose(np.log(line.get_ydata()), np.log(point.get_ydata()))


def test_reach_is_shaded_where_the_margin_is_small(results):
    axes = fig_reach.draw(results).axes[0]
    shaded = sorted((patch.get_x(), patch.get_x() + patch.get_width()) for patch in axes.patches)
    assert shaded == [(0.5, 1.5), (1.5, 2.0)]
