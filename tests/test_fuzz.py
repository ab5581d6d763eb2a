"""Whatever a reader or a command line is given: a result or one line, and no file is lost.

A few inputs of each kind by default; ``pytest -n 0 -m slow tests/test_fuzz.py`` tries 12,250.
"""

import contextlib
import io
import json
import time
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from absl import flags
from conftest import names_in
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from benchmarks import (
    compare_reports,
    coverage,
    detection,
    memorization,
    mutation,
    scaling,
    steering,
)
from benchmarks import run as training_times
from dae_theory import InputError
from dae_theory.commands import CommonOptions, define_flags, run_main
from dae_theory.data import load_path
from dae_theory.deep import export, subset, training
from dae_theory.deep.checkpoints import FOLDER, load_checkpoint
from dae_theory.deep.ladder import __main__ as ladder
from dae_theory.deep.ladder import store as ladders
from dae_theory.deep.training import DeepConfig, NetworkConfig, read_metrics
from dae_theory.detect import __main__ as detect
from dae_theory.detect.images import read_captions
from dae_theory.detect.study import __main__ as detect_study
from dae_theory.detect.study import store as detect_studies
from dae_theory.steer import __main__ as steer
from dae_theory.steer import classifier
from dae_theory.steer.directions import Direction, load_direction, save_direction
from dae_theory.steer.study import __main__ as steer_study
from dae_theory.steer.study import store as steer_studies
from dae_theory.sweep import __main__ as sweep
from dae_theory.sweep.plan import SweepConfig
from dae_theory.sweep.store import COLUMNS, read_parts
from dae_theory.sweep.store import read_config as read_sweep
from dae_theory.weights.read import read_weights
from figures import make, samples
from figures.make import load_any
from figures.results import RunResults
from proofs_checks import run

FEW, MANY = 12, 1000  # inputs of a kind; four times as many command lines, fewer large tables
MOST_S = 10.0
amount = pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])


def tried(strategy, examples, check):
    """Call ``check`` with so many generated inputs, none of which may take ten seconds."""

    def timed(case):
        start = time.monotonic()
        check(case)
        assert examples == FEW or time.monotonic() - start < MOST_S  # CI looks at no clock

    settled = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    settled(given(strategy)(timed))()


def result_of(read, *arguments):
    """What is read, or None where it is refused."""
    with contextlib.suppress(InputError):
        return read(*arguments)
    return None


# --- bytes --------------------------------------------------------------------------------------


@st.composite
def damaged(draw, contents):
    """A file's content: whole, cut, with bytes changed or put in, or anything at all."""
    content = bytearray(draw(st.sampled_from(contents)))
    how = draw(st.sampled_from(["whole", "cut", "changed", "longer", "anything"]))
    if how == "anything":
        return draw(st.binary(max_size=200))
    if how == "cut":
        return bytes(content[: draw(st.integers(0, len(content)))])
    for _ in range(draw(st.integers(1, 4)) if how != "whole" else 0):
        place = draw(st.integers(0, len(content) - 1))
        if how == "changed":
            content[place] = draw(st.integers(0, 255))
        else:
            content[place:place] = draw(st.binary(min_size=1, max_size=8))
    return bytes(content)


def npz(**arrays):
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def npy(array):
    content = io.BytesIO()
    np.save(content, array, allow_pickle=True)
    return content.getvalue()


ARRAYS = hnp.arrays(
    hnp.scalar_dtypes() | hnp.array_dtypes(),
    hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
)
KEYS = st.sampled_from(["X", "labels", "arr_0", "arr_1", "W1", "W2", "sigma", "lam", "b1", "x"])


def read_untouched(path, content, read, *arguments):
    path.write_bytes(content)
    found = result_of(read, path, *arguments)
    assert path.read_bytes() == content
    return found


@amount
def test_array_files(examples, tmp_path):
    rng = np.random.default_rng(0)
    whole = [npy(rng.random((5, 4))), npy(rng.integers(0, 256, (5, 3, 3)).astype(np.uint8))]
    whole += [npz(X=rng.random((5, 4)), labels=np.arange(5)), npy(np.array([None, 1]))]
    contents = damaged(whole) | ARRAYS.map(npy)
    contents |= st.dictionaries(KEYS, ARRAYS, max_size=3).map(lambda arrays: npz(**arrays))

    def check(case):
        content, suffix, limit = case
        path = tmp_path / f"x{suffix}"
        dataset = read_untouched(path, content, lambda p: load_path(p, limit=limit))
        if dataset is not None:
            assert dataset.x.ndim == 2
            assert dataset.x.size
            assert np.isfinite(dataset.x).all()
            assert dataset.labels is None or len(dataset.labels) == len(dataset.x)

    suffixes = st.sampled_from([".npy", ".npz", ".NPY"])
    tried(st.tuples(contents, suffixes, st.none() | st.integers(1, 9)), examples, check)


@amount
def test_images(examples, tmp_path):
    rng = np.random.default_rng(0)
    whole = []
    for kind in ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF"):
        for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16"):
            image = Image.fromarray(rng.integers(0, 256, (9, 7, 3)).astype(np.uint8))
            content = io.BytesIO()
            try:
                image = image.convert("L").convert("I").convert(mode) if ";" in mode else image
                image.convert(mode).save(content, kind)
            except (OSError, ValueError):  # the kind has no such mode
                continue
            whole.append(content.getvalue())

    def check(case):
        content, suffix, size, gray = case
        for path in tmp_path.iterdir():
            path.unlink()
        path = tmp_path / f"a{suffix}"
        read = read_untouched(path, content, lambda p: load_path(p.parent, size=size, gray=gray))
        if read is not None:
            assert read.x.shape[0] == 1
            assert read.x.min() >= 0
            assert read.x.max() <= 1

    suffixes = st.sampled_from([".png", ".jpg", ".bmp", ".tif", ".webp", ".gif", ".PNG"])
    sizes = st.none() | st.integers(1, 20)
    tried(st.tuples(damaged(whole), suffixes, sizes, st.booleans()), examples, check)


@amount
def test_weights(examples, tmp_path):
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((4, 3)), rng.standard_normal((5, 4))
    right = {"W1": w, "W2": w, "X": x, "sigma": np.array(0.1), "lam": np.array(0.01)}
    changed = st.dictionaries(KEYS, ARRAYS, max_size=2).map(lambda arrays: npz(**right | arrays))

    def check(content):
        saved = read_untouched(tmp_path / "net.npz", content, read_weights)
        if saved is not None:
            assert saved.w1.shape == saved.w2.shape
            assert len(saved.w1) == saved.problem.x.shape[1]
            assert np.isfinite([saved.w1, saved.w2]).all()

    tried(damaged([npz(**right), npz(**right, labels=np.arange(5))]) | changed, examples, check)


@amount
def test_captions(examples, tmp_path):
    names = ["a.png", "b.png"]
    whole = [b"one\ntwo\n", b'image,caption\na.png,"one, two"\nb.png,\n']

    def check(case):
        content, suffix = case
        read = read_untouched(
            tmp_path / f"captions{suffix}", content, lambda p: read_captions(p, names)
        )
        if read is not None:
            assert {type(read[name]) for name in names} == {str}

    tried(st.tuples(damaged(whole), st.sampled_from([".txt", ".csv"])), examples, check)


# --- settings and results -----------------------------------------------------------------------

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)


@st.composite
def settings_like(draw, right):
    """JSON like the settings that are right: with some entries changed or lost, or damaged."""
    changed = json.loads(json.dumps(right))
    for _ in range(draw(st.integers(0, 3))):
        inside = [value for value in changed.values() if isinstance(value, dict) and value]
        place = draw(st.sampled_from([changed, *inside]))
        if place:
            name = draw(st.sampled_from(sorted(place)))
            if draw(st.booleans()):
                place[name] = draw(PLAIN)
            else:
                del place[name]
    return draw(damaged([json.dumps(changed).encode()]))


@amount
def test_settings_of_sweeps_and_trainings(examples, tmp_path):
    sweeps = {"schema": 1, "config": vars(SweepConfig()), "data_sha256": "0"}
    trainings = vars(DeepConfig()) | {"network": vars(NetworkConfig())}

    def check(case):
        content, metrics = case
        (tmp_path / "metrics.csv").write_bytes(metrics)
        for read in (read_sweep, training.read_config):
            read_untouched(tmp_path / "config.json", content, lambda p, read=read: read(p.parent))
        result_of(read_metrics, tmp_path)

    curve = damaged([b"step,loss,seconds\r\n100,0.5,1.5\r\n200,0.25,3\r\n"])
    tried(st.tuples(settings_like(sweeps) | settings_like(trainings), curve), examples, check)


@amount
def test_checkpoints(examples, tmp_path):
    whole = {s: (FOLDER / f"memorizing-unet{s}").read_bytes() for s in (".npz", ".json")}
    card = json.loads(whole[".json"]) | {"loss_curve": []}

    def check(case):
        for suffix, content in zip((".npz", ".json"), case, strict=True):
            (tmp_path / f"net{suffix}").write_bytes(content)
        result_of(load_checkpoint, tmp_path / "net.npz")
        assert (tmp_path / "net.npz").read_bytes() == case[0]

    tried(st.tuples(damaged([whole[".npz"]]), settings_like(card)), examples, check)


@amount
def test_results_of_runs_and_sweeps(examples, tmp_path):
    (tmp_path / "parts").mkdir()
    table = pa.table({name: [1] for name in ("cell", "seed")} | {"note": ["x"]})
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([dict.fromkeys(COLUMNS.names)], COLUMNS), content)
    other = io.BytesIO()
    pq.write_table(table, other)
    report = {"schema": 2, "claims": [], "config": {"resolved": {"memorize": {}}}}
    scaling = {"sweeps": [], "exponent": 1.0, "cells_per_s": 1.0}

    def check(case):
        part, results, reported, scaled = case
        read_untouched(
            tmp_path / "parts" / "0.parquet", part, lambda p: read_parts(p.parent.parent)
        )
        (tmp_path / "report.json").write_bytes(reported)
        (tmp_path / "scaling.json").unlink(missing_ok=True)
        read = read_untouched(tmp_path / "results.npz", results, lambda p: load_any(p.parent))
        if read is not None:
            assert isinstance(read, RunResults)
            result_of(read.require, "any", ("memorize",), ("memorize/w1",))
        read_untouched(tmp_path / "scaling.json", scaled, lambda p: load_any(p.parent))

    parts = damaged([content.getvalue(), other.getvalue()])
    results = damaged([npz(**{"memorize/w1": np.zeros(3)})])
    cases = st.tuples(parts, results, settings_like(report), settings_like(scaling))
    tried(cases, examples, check)


DESCRIBED = {  # a table beside the card that has its hash
    "direction": (load_direction, ("tops.npz", "tops.json")),
    "classifier": (classifier.load_classifier, ("tops.npz", "tops.json")),
    "ladder": (lambda p: ladders.Ladder.load(p.parent), (ladders.TABLE, ladders.CARD)),
    "detection": (
        lambda p: detect_studies.Study.load(p.parent),
        (detect_studies.TABLE, detect_studies.CARD),
    ),
    "steering": (
        lambda p: steer_studies.Study.load(p.parent),
        (steer_studies.TABLE, steer_studies.CARD),
    ),
}


@pytest.mark.parametrize("kind", DESCRIBED)
@amount
def test_tables_beside_their_cards(kind, examples, tmp_path):
    read, names = DESCRIBED[kind]
    if kind == "direction":
        facts = {"model": "m", "model_sha256": "0", "kind": "mean"}
        save_direction(Direction({"layer": np.arange(3.0)}, facts), tmp_path / names[0])
        whole = [(tmp_path / name).read_bytes() for name in names]
    elif kind == "classifier":
        paths = classifier.SHIPPED, classifier.SHIPPED.with_suffix(".json")
        whole = [path.read_bytes() for path in paths]
    else:
        store = {"ladder": ladders, "detection": detect_studies, "steering": steer_studies}[kind]
        whole = [(store.MEASURED / name).read_bytes() for name in names]
    table = tmp_path / names[0]

    def check(case):
        for name, content in zip(names, case, strict=True):
            (tmp_path / name).write_bytes(content)
        result_of(read, table)
        assert table.read_bytes() == case[0]

    # Half the time the table is what the card says, so that the card alone is judged.
    tables = st.just(whole[0]) | damaged(whole[:1])
    tried(st.tuples(tables, settings_like(json.loads(whole[1]))), examples // 4, check)


# --- command lines ------------------------------------------------------------------------------

COMMANDS = {
    "run": (run.main, run.Options),
    "sweep": (sweep.main, sweep.Options),
    "training": (training.main, training.Options),
    "export": (export.main, export.Options),
    "subset": (subset.main, subset.Options),
    "detect": (detect.main, detect.Options),
    "steer": (steer.main, steer.Options),
    "make": (make.main, make.Options),
    "samples": (samples.main, samples.Options),
    "compare_reports": (compare_reports.main, compare_reports.Options),
    "ladder": (ladder.main, ladder.Options),
    "detect.study": (detect_study.main, detect_study.Options),
    "steer.study": (steer_study.main, steer_study.Options),
    "classifier": (classifier.main, classifier.Options),
    "benchmarks.run": (training_times.main, training_times.Options),
    "scaling": (scaling.main, scaling.Options),
    "memorization": (memorization.main, memorization.Options),
    "detection": (detection.main, detection.Options),
    "steering": (steering.main, steering.Options),
    "coverage": (
        lambda line: run_main(coverage.print_tables, coverage.Options, line, ""),
        coverage.Options,
    ),
    "mutation": (
        lambda line: run_main(mutation.try_errors, mutation.Options, line, ""),
        mutation.Options,
    ),
}
FILES = ("x.npy", "net.npz", "damaged.npz", "images", "empty", "notes.txt", "missing.npy", "run")
TEXT = st.text(st.characters(exclude_characters="\0"), max_size=6)
VALUES = st.one_of(
    st.sampled_from(["", "0", "-1", "1", "2", "3", "7", "1e-3", ".5", "1e300", "nan", "inf", "x"]),
    st.sampled_from(["1,2", "2,2", "1,", "a,b", "9" * 30, "10**9", "0x1", "true", "None", "dress"]),
    st.sampled_from(["memorize", "all", "simplex", "mixture", "faces", "hybrid-unet", "host:1"]),
    st.sampled_from(FILES),
    TEXT,
)


def options_of(options_class):
    values = flags.FlagValues()
    define_flags(options_class, values)
    define_flags(CommonOptions, values)
    return sorted(set(values) - {"verbose", "compilation_cache"})


@st.composite
def command_lines(draw):
    """A command, and options with values that may fit them."""
    name = draw(st.sampled_from(sorted(COMMANDS)))
    known = options_of(COMMANDS[name][1])
    line = []
    for _ in range(draw(st.integers(0, 5))):
        option = draw(st.sampled_from(known) if draw(st.integers(0, 9)) else TEXT)
        value = draw(VALUES)
        if option == "out" and draw(st.booleans()):
            value = "results"
        line.append(draw(st.sampled_from([f"--{option}={value}", f"--{option}", f"--no{option}"])))
    stray = draw(st.lists(TEXT, max_size=1)) if draw(st.integers(0, 9)) == 0 else []
    return name, line + stray


class ReachedError(InputError):
    """The work that a command line asks for would begin here."""


def reached(*arguments, **keywords):
    raise ReachedError("the work begins")


@pytest.fixture
def fast_commands(monkeypatch, tmp_path, without_fashion_mnist):
    """Commands that stop where long work begins, in a folder with all kinds of files."""
    for place in (
        *("proofs_checks.run.check", "dae_theory.sweep.run.compute_batch"),
        "jax.distributed.initialize",
        *("dae_theory.sweep.__main__.meet", "dae_theory.sweep.__main__.precision_report"),
        *("dae_theory.deep.training._train", "dae_theory.deep.export.evaluate_checkpoint"),
        *("dae_theory.deep.subset.subset_arrays", "dae_theory.detect.scores.score.Score.__call__"),
        *("dae_theory.steer.__main__.concept_direction", "dae_theory.steer.apply.change_of"),
        *("figures.make.run_regimes",),
        *("figures.make.draw_one", "figures.samples.sample_images"),
        *("dae_theory.deep.ladder.__main__.run_rung", "dae_theory.steer.classifier.fit"),
        "dae_theory.detect.study.__main__.train_models",
        "dae_theory.steer.study.__main__.measure",
        *("benchmarks.run.run", "benchmarks.scaling.measure_apart", "benchmarks.coverage.table"),
        *("benchmarks.memorization.images", "benchmarks.detection.ratios"),
        *("benchmarks.steering.overhead", "benchmarks.mutation.sites_of"),
    ):
        monkeypatch.setattr(place, reached)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((9, 4)), rng.standard_normal((4, 3))
    np.save("x.npy", x)
    np.savez("net.npz", W1=w, W2=w, X=x, sigma=0.1, lam=0.01)
    Path("damaged.npz").write_bytes(Path("net.npz").read_bytes()[:-30])
    Path("notes.txt").write_text("precious")
    for name in ("images", "empty", "run"):
        Path(name).mkdir()
    Image.fromarray(rng.integers(0, 256, (9, 9)).astype(np.uint8)).save("images/a.png")
    Path("run/report.json").write_text('{"schema": 2, "claims": [], "config": {"resolved": {}}}')
    np.savez("run/results.npz", x=x)
    yield folder
    jax.config.update("jax_enable_compilation_cache", True)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@amount
def test_command_lines(examples, fast_commands, capsys):
    before = contents(fast_commands)

    def check(case):
        name, line = case
        status = COMMANDS[name][0]([name, *line])
        out, err = capsys.readouterr()
        said = [row for row in err.splitlines() if row.startswith("error: ")]
        too_large = "too large for this machine" in err
        assert status in ((0, 1, 2, 3) if too_large else (0, 1, 2)), err
        assert len(said) == (status > 1), err
        assert "Traceback" not in out + err
        after = contents(fast_commands)
        assert before.items() <= after.items()

    tried(command_lines(), 4 * examples, check)


def test_names_are_found_in_messages():
    assert names_in("sigma: must be > 0") == {"sigma"}
    assert names_in("guidance, caption: too many") == {"guidance", "caption"}
    assert names_in("/a/b.npy: no such file; give --data or n=3") == {"data", "n"}
    assert names_in("go on with python -m x --steps=3") == {"steps"}
    assert names_in("cannot read or write x.npz: full") == set()
