"""Files that are whole or not there, settings that are read or refused, folders of one process."""

import json
from pathlib import Path

import numpy as np
import pytest

from dae_theory.checks import InputError
from dae_theory.files import (
    cache_folder,
    held,
    npz_bytes,
    read_npz,
    read_settings,
    reserve_folder,
    write_settings,
    write_whole,
)

SETTINGS = {"schema": 1, "config": {"sigma": [0.1, 0.3], "data": "σ.npy"}, "data_sha256": "ab"}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    for content in (b"first", b"second"):
        write_whole(path, content)
        assert path.read_bytes() == content
    assert names_in(tmp_path) == ["a.txt"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_whole(path, b"old")
    seen = []

    def full_disk(descriptor):
        seen.extend(names_in(tmp_path))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dae_theory.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new", process=3)
    assert seen == [".a.txt.3.tmp", "a.txt"]
    assert names_in(tmp_path) == ["a.txt"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("compress", [True, False])
def test_arrays_come_back(tmp_path, compress):
    arrays = {"a": np.arange(3.0), "b/c": np.array([[True]])}
    write_whole(tmp_path / "x.npz", npz_bytes(arrays, compress=compress))
    found = read_npz(tmp_path / "x.npz")
    assert list(found) == ["a", "b/c"]
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "objects"])
def test_arrays_that_cannot_be_read_are_refused(tmp_path, damage):
    path, arrays = tmp_path / "x.npz", {"a": np.arange(300.0)}
    if damage == "objects":
        arrays = {"a": np.array([None])}
    said = {"missing": "no such file", "objects": "holds Python objects"}
    said |= dict.fromkeys(("empty", "truncated"), r"truncated or not an \.npz file")
    content = {"empty": b"", "truncated": npz_bytes(arrays)[:-50]}.get(damage, npz_bytes(arrays))
    if damage != "missing":
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.npz: {said[damage]}"):
        read_npz(path)


def test_settings_come_back(tmp_path):
    write_settings(tmp_path / "config.json", SETTINGS)
    assert read_settings(tmp_path / "config.json", ("schema", "config")) == SETTINGS
    assert "σ.npy" in (tmp_path / "config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"config\.json: no such file$"),
        (b"", r"config\.json: damaged or not JSON .*; get it anew, or start again in another"),
        (json.dumps(SETTINGS).encode()[:-9], r"config\.json: damaged or not JSON .*; get it anew"),
        (b"\xff\xfe\xff", r"config\.json: damaged or not JSON .*; get it anew"),
        (b"[1]", r"config\.json: damaged, not a JSON object; get it anew"),
        (b'{"schema": 1}', r"config\.json: damaged or of something else, no 'config'; get it anew"),
    ],
)
def test_settings_that_cannot_be_read_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_settings(path, ("schema", "config"))
    assert "\n" not in str(caught.value)


def test_a_folder_is_reserved_for_its_settings(tmp_path):
    out = tmp_path / "a" / "b"
    for _ in range(2):
        with reserve_folder(out, SETTINGS, "sweep"):
            assert read_settings(out / "config.json") == SETTINGS


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"config": {"sigma": (0.1,), "data": "x.npy"}}, "data was σ.npy, now x.npy; sigma was "),
        ({"config": {"sigma": (0.1, 0.3), "data": "σ.npy", "p": 2}}, "p was None, now 2"),
        ({"config": {"sigma": (0.2,), "data": "σ.npy"}, "data_sha256": "x"}, "0.3, now 0.2)"),
        ({"data_sha256": "cd"}, "(data_sha256 was ab, now cd)"),
        ({"schema": 2}, "(schema was 1, now 2)"),
    ],
)
def test_a_folder_of_other_settings_is_refused_and_says_what_differs(tmp_path, changes, words):
    with reserve_folder(tmp_path, SETTINGS, "sweep"):
        pass
    before = (tmp_path / "config.json").read_bytes()
    with (
        pytest.raises(InputError, match="holds a sweep with another config") as caught,
        reserve_folder(tmp_path, SETTINGS | changes, "sweep"),
    ):
        pytest.fail("the folder is another's")
    assert words in str(caught.value)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_folder_whose_settings_are_damaged_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("")
    with (
        pytest.raises(InputError, match=r"config\.json: damaged"),
        reserve_folder(tmp_path, SETTINGS, "sweep"),
    ):
        pytest.fail("nobody knows whose the folder is")


def test_two_cannot_work_in_one_folder_but_parts_of_one_computation_can(tmp_path):
    with reserve_folder(tmp_path, SETTINGS, "sweep", 0):
        with (
            pytest.raises(InputError, match=r"out: another sweep is running in .*; wait for it"),
            reserve_folder(tmp_path, SETTINGS, "sweep", 0),
        ):
            pytest.fail("two at once")
        with reserve_folder(tmp_path, SETTINGS, "sweep", 1):
            pass
    with held(tmp_path / ".lock-0", "busy"):
        pass


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("DAE_THEORY_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("DAE_THEORY_CACHE", "")
    assert cache_folder() == Path.home() / ".cache" / "dae_theory"
