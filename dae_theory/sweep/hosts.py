"""Processes of one sweep, on several hosts, meet before JAX connects them.

JAX ends a process by a signal, after minutes of silence, where another does not come, an id is
wrong, or the port is taken. All this is found out here, in words and within a time limit.
"""

import contextlib
import json
import socket
import time
from collections.abc import Callable
from typing import NamedTuple

from dae_theory.checks import InputError, check_count

GO = "all here"
GREETING_S = 2.0  # that a connection has to say who it is
RETRY_S = 0.1
LONGEST_LINE = 1000


class Meeting(NamedTuple):
    """Where ``processes`` processes meet, which of them this one is, and how long it waits."""

    host: str
    port: int
    processes: int
    process: int
    wait_s: int

    @property
    def place(self) -> str:
        """As on the command line."""
        return f"{self.host}:{self.port}"

    @property
    def greeting(self) -> list[int]:
        """What a process says first."""
        return [self.process, self.processes]


def checked_meeting(coordinator: str, processes: int, process: int, wait_s: int) -> Meeting:
    """What the options say.

    Raises:
      InputError: for a coordinator that is not HOST:PORT, a count below 1, or an id that is not
        below the number of processes.
    """
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isascii() and port.isdigit() and 0 < int(port[:9]) < 2**16):
        raise InputError(f"coordinator: expected HOST:PORT, got {coordinator!r}")
    check_count(processes, "num_processes")
    check_count(wait_s, "wait_s")
    if not 0 <= process < processes:
        raise InputError(
            f"process_id: expected 0 to {processes - 1} of num_processes={processes}, got {process}"
        )
    return Meeting(host.strip("[]"), int(port), processes, process, wait_s)


def meet(meeting: Meeting, announce: Callable[[str], None]) -> None:
    """Return once all processes are here; process 0 leaves the port free again.

    Args:
      announce: called with a line that says for whom this process waits.

    Raises:
      InputError: when the port is taken, the host unknown, two processes do not fit together, or
        somebody has not come after ``wait_s`` seconds.
    """
    deadline = time.monotonic() + meeting.wait_s
    if meeting.process == 0:
        _receive(meeting, deadline, announce)
    else:
        _join(meeting, deadline, announce)


def _receive(meeting: Meeting, deadline: float, announce: Callable[[str], None]) -> None:
    """What process 0 does."""
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(_listener(meeting.port))
        except OSError as error:
            raise InputError(
                f"coordinator: port {meeting.port} cannot be used here ({error.strerror}); choose "
                "another, the same for all processes"
            ) from None
        here: dict[int, socket.socket] = {}
        if meeting.processes > 1:
            announce(f"waiting for {meeting.processes - 1} more processes at {meeting.place}")
        while len(here) < meeting.processes - 1:
            listener.settimeout(_left(deadline))
            try:
                connection = stack.enter_context(listener.accept()[0])
            except TimeoutError:
                absent = sorted(set(range(1, meeting.processes)) - here.keys())
                raise InputError(
                    f"coordinator: after {meeting.wait_s} s process_id {_listed(absent)} of "
                    f"{meeting.processes} had not come to {meeting.place}"
                ) from None
            process, reason = _greeted(connection, meeting, here)
            if reason is None:
                here[process] = connection
            else:
                _say(connection, reason)
        listener.close()
        for connection in here.values():
            _say(connection, GO)
        for connection in here.values():  # who hangs up first keeps the port busy for a while
            _heard(connection, GREETING_S)


def _listener(port: int) -> socket.socket:
    """Listens on all addresses of this host, as JAX will."""
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _greeted(
    connection: socket.socket, meeting: Meeting, here: dict[int, socket.socket]
) -> tuple[int, str | None]:
    """Which process a connection is of, and why it is not one of this meeting (None if it is)."""
    try:
        process, processes = json.loads(_heard(connection, GREETING_S))
    except (ValueError, TypeError):
        return -1, "expected a process of a sweep"
    if processes != meeting.processes:
        return -1, f"num_processes: process 0 was told {meeting.processes}, this one {processes}"
    if process in here or process == 0:
        return -1, f"process_id: another process has {process}"
    return process, None


def _join(meeting: Meeting, deadline: float, announce: Callable[[str], None]) -> None:
    """What the other processes do."""
    announce(f"waiting for process 0 at {meeting.place}")
    while (left := _left(deadline)) > RETRY_S:
        try:
            with socket.create_connection((meeting.host, meeting.port), timeout=left) as connection:
                _say(connection, json.dumps(meeting.greeting))
                answer = _heard(connection, left)
        except socket.gaierror as error:
            raise InputError(f"coordinator: no host {meeting.host!r} ({error.strerror})") from None
        except OSError:
            answer = ""
        if answer == GO:
            return
        if answer:
            raise InputError(f"coordinator: {meeting.place} answers: {answer}")
        time.sleep(RETRY_S)  # nobody there yet
    raise InputError(
        f"coordinator: after {meeting.wait_s} s the processes were not all at {meeting.place}; "
        "start all of them, with the same --coordinator and --num_processes"
    )


def _left(deadline: float) -> float:
    """Seconds to a deadline; not 0, which would mean not to wait at all."""
    return max(deadline - time.monotonic(), RETRY_S / 10)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _say(connection: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):
        connection.sendall(line.encode() + b"\n")


def _heard(connection: socket.socket, wait_s: float) -> str:
    """A line that the other end says in time; empty when it says none."""
    connection.settimeout(wait_s)
    try:
        with connection.makefile("rb") as stream:
            return stream.readline(LONGEST_LINE).decode(errors="replace").strip()
    except OSError:
        return ""
