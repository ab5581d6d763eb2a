"""Processes of a sweep meet, and say why they cannot."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dae_theory import InputError
from dae_theory.sweep import hosts
from dae_theory.sweep.__main__ import main
from dae_theory.sweep.hosts import checked_meeting, meet


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def silent(line):
    pass


def meets(port, processes, process, wait_s=20, announce=silent):
    meet(checked_meeting(f"127.0.0.1:{port}", processes, process, wait_s), announce)


def test_three_processes_meet_whoever_comes_first_and_the_port_is_free_after(port):
    said = []
    with ThreadPoolExecutor() as pool:
        early = pool.submit(meets, port, 3, 2, announce=said.append)
        first = pool.submit(meets, port, 3, 0, announce=said.append)
        late = pool.submit(meets, port, 3, 1)
        for process in (early, first, late):
            process.result(timeout=30)
    assert sorted(said) == [
        f"waiting for 2 more processes at 127.0.0.1:{port}",
        f"waiting for process 0 at 127.0.0.1:{port}",
    ]
    hosts._listener(port).close()


def test_one_process_waits_for_nobody(port):
    meets(port, 1, 0, announce=pytest.fail)


@pytest.mark.parametrize("process", [0, 1])
def test_who_waits_in_vain_says_for_whom(port, process):
    with pytest.raises(InputError, match=r"coordinator: after 1 s .*process") as caught:
        meets(port, 3, process, wait_s=1)
    assert str(port) in str(caught.value)
    assert process or "process_id 1, 2 of 3" in str(caught.value)


def test_a_taken_port_is_said(port):
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(InputError, match="cannot be used"),
    ):
        meets(port, 1, 0)


@pytest.mark.parametrize(
    ("processes", "process", "message"),
    [(4, 1, "num_processes: process 0 was told 3, this one 4"), (3, 1, "another process has 1")],
)
def test_processes_that_do_not_fit_are_told_and_the_others_still_meet(
    port, processes, process, message, monkeypatch
):
    greeted, greet = threading.Event(), hosts._greeted

    def watched(*arguments):
        found = greet(*arguments)
        greeted.set()
        return found

    monkeypatch.setattr(hosts, "_greeted", watched)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(meets, port, 3, 0)
        right = [pool.submit(meets, port, 3, 1)]
        greeted.wait(timeout=30)  # process 1 is there
        with pytest.raises(InputError, match=message):
            meets(port, processes, process)
        right.append(pool.submit(meets, port, 3, 2))
        for done in (first, *right):
            done.result(timeout=30)


def test_something_else_at_the_port_is_said(port):
    def serve(server):
        connection, _ = server.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")

    with socket.create_server(("127.0.0.1", port)) as server, ThreadPoolExecutor() as pool:
        pool.submit(serve, server)
        with pytest.raises(InputError, match=r"answers: HTTP/1\.1 400 Bad Request"):
            meets(port, 2, 1)


def test_somebody_else_who_calls_is_sent_away(port):
    listening = threading.Event()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(meets, port, 2, 0, announce=lambda line: listening.set())
        listening.wait(timeout=30)
        with socket.create_connection(("127.0.0.1", port)) as caller:
            caller.sendall(b"GET / HTTP/1.1\r\n")
            assert b"expected a process of a sweep" in caller.recv(100)
        meets(port, 2, 1)
        first.result(timeout=30)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["127.0.0.1", 1, 0], "coordinator: expected HOST:PORT, got '127.0.0.1'"),
        ([":1234", 1, 0], "coordinator: expected HOST:PORT"),
        (["host:0", 1, 0], "coordinator: expected HOST:PORT"),
        (["host:70000", 1, 0], "coordinator: expected HOST:PORT"),
        (["host:x", 1, 0], "coordinator: expected HOST:PORT"),
        (["host:1", 0, 0], "num_processes: must be at least 1"),
        (["host:1", 2, 2], "process_id: expected 0 to 1 of num_processes=2, got 2"),
        (["host:1", 2, -1], "process_id: expected 0 to 1"),
    ],
)
def test_options_that_name_no_meeting_are_refused(options, message, tmp_path, capsys):
    with pytest.raises(InputError, match=message):
        checked_meeting(*options, 10)
    named = zip(("coordinator", "num_processes", "process_id"), options, strict=True)
    arguments = [f"--{name}={value}" for name, value in named]
    assert main(["sweep", f"--out={tmp_path}", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_addresses_of_version_six():
    assert checked_meeting("[::1]:1234", 1, 0, 10)[:2] == ("::1", 1234)


def test_an_unknown_host_is_refused_at_once():
    with pytest.raises(InputError, match=r"no host 'nosuchhost\.invalid'"):
        meet(checked_meeting("nosuchhost.invalid:1234", 2, 1, 60), silent)
