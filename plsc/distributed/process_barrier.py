"""Barrier among the processes of a job, with a configurable timeout and an error that names the missing process.

A collective of gloo fails after 30 seconds, a limit that Paddle does not allow to change; one of NCCL waits forever.
Therefore every process waits here before it starts a collective, so that none is late in the collective. Process 0
has a TCP connection to each of the others. The end of a process closes its connection and ends the wait at once; a
process that is busy or stopped keeps its connection.
"""

import contextlib
import json
import os
import secrets
import selectors
import socket
import sys
import time
from typing import Any, Callable, Dict, List, Mapping, NoReturn, Optional

from plsc import strict_json
from plsc.errors import JobError

_HELLO = 10.0  # timeout of the first message of a connection, seconds
_LONGEST_HELLO = 200  # bytes
_SLICE = 1.0  # seconds of one wait, so that a suspended job does not use up its timeout
_SAY_AFTER = 60.0  # seconds until process 0 prints the processes that are missing
_MARGIN = 15.0  # seconds that the others wait longer than process 0, which knows the missing processes


class _Connection:
    """Socket connection for messages, one JSON object per line."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._received = b""

    def send(self, **message: Any) -> None:
        with contextlib.suppress(OSError):  # the next read detects a closed connection
            self.sock.sendall(strict_json.dumps(message).encode() + b"\n")

    def read(self) -> bool:
        """Read the data that has arrived; return False if the other side has closed the connection."""
        try:
            received = self.sock.recv(65536)
        except OSError:
            return False
        self._received += received
        return bool(received)

    def messages(self) -> List[Dict[str, Any]]:
        """Return the complete messages of the data read so far."""
        *lines, self._received = self._received.split(b"\n")
        return [dict(json.loads(line)) for line in lines]


class ProcessBarrier:
    """One process's end of the barrier.

    Args:
        rank: Number of this process.
        sockets: Connected sockets by rank: in process 0 those of all other processes, in the others that of process 0.
        world_size: Number of processes.
        timeout: Seconds to wait for the others.
    """

    def __init__(self, rank: int, sockets: Mapping[int, socket.socket], world_size: int, timeout: float) -> None:
        self.rank = rank
        self.world_size = world_size
        self.timeout = timeout
        self._peers = {peer: _Connection(sock) for peer, sock in sockets.items()}
        self._failure: Optional[JobError] = None
        self._selector = selectors.DefaultSelector()
        for peer, connection in self._peers.items():
            self._selector.register(connection.sock, selectors.EVENT_READ, peer)
        os.register_at_fork(after_in_child=self.close)  # loader workers must not keep the connections open

    def wait(self, place: str) -> None:
        """Wait until every process has called it with the same `place`.

        Args:
            place: Name of this point of the program, for messages.

        Raises:
            JobError: In every process, with the ranks, if a process has ended or failed, is at another place, or does
                not arrive within `timeout` seconds.
        """
        if self._failure is not None:
            raise self._failure
        if self.rank == 0:
            self._lead(place)
        else:
            self._follow(place)

    def fail(self, text: str, user_error: bool = False) -> None:
        """Send the reason of a failure of this process to the others; they raise it at their barrier."""
        if self._failure is None:
            self._tell(JobError(f"process {self.rank} of {self.world_size} failed: {text}", user_error))

    def close(self) -> None:
        """Close the connections."""
        self._selector.close()
        for connection in self._peers.values():
            connection.sock.close()

    def _lead(self, place: str) -> None:
        missing = set(self._peers)
        waited, said = 0.0, False
        while True:
            for peer, connection in self._peers.items():
                for message in connection.messages():
                    self._check(peer, message, place, missing - {peer})
                    missing.discard(peer)
            if not missing:
                break
            waited += self._read(place, waited, missing)
            if waited > _SAY_AFTER and not said:
                said = True
                with contextlib.suppress(OSError, ValueError):
                    print(f"process 0 is waiting at {place} for {_processes(missing)}", file=sys.stderr, flush=True)
        for connection in self._peers.values():
            connection.send(go=True)

    def _check(self, peer: int, message: Mapping[str, Any], place: str, missing: "set[int]") -> None:
        """Raise JobError unless the sender of a message is at `place`."""
        if "failed" in message:
            late = f"; {_processes(missing)} had not arrived at {place}" if message.get("late") and missing else ""
            self._raise(message["failed"] + late, bool(message.get("user_error")))
        if message["at"] != place:
            self._raise(
                f"the processes of this job are at different places: process 0 at {place}, process {peer} at "
                f"{message['at']}; check that all have the same data, config and code"
            )

    def _follow(self, place: str) -> None:
        leader, waited = self._peers[0], 0.0
        leader.send(at=place)
        answers = leader.messages()
        while not answers:
            waited += self._read(place, waited, {0})
            answers = leader.messages()
        failed = [answer for answer in answers if "failed" in answer]
        if failed:
            self._failure = JobError(failed[0]["failed"], bool(failed[0].get("user_error")))
            raise self._failure

    def _read(self, place: str, waited: float, missing: "set[int]") -> float:
        """Read the data that arrives within a part of the remaining time; return the seconds waited."""
        left = self.timeout + (_MARGIN if self.rank else 0.0) - waited
        start = time.monotonic()
        ready = self._selector.select(max(0.0, min(_SLICE, left)))
        for key, _ in ready:
            if not self._peers[key.data].read():
                self._raise(
                    f"process {key.data} of {self.world_size} has ended, while process {self.rank} waits for it at "
                    f"{place}; see its workerlog file"
                )
        if not ready and left <= 0:
            self._raise(
                f"process {self.rank} of {self.world_size} waited {self.timeout:g} seconds at {place} for "
                f"{_processes(missing)}; raise DistributedStrategy.collective_timeout if more time is needed",
                late=self.rank != 0,
            )
        return min(time.monotonic() - start, _SLICE)

    def _raise(self, text: str, user_error: bool = False, late: bool = False) -> NoReturn:
        self._tell(JobError(text, user_error), late)
        assert self._failure is not None
        raise self._failure

    def _tell(self, failure: JobError, late: bool = False) -> None:
        self._failure = failure
        for connection in self._peers.values():
            connection.send(failed=str(failure), user_error=failure.user_error, late=late)


def _processes(numbers: "set[int]") -> str:
    listed = ", ".join(map(str, sorted(numbers)[:20])) + (", ..." if len(numbers) > 20 else "")
    return f"process{'es' * (len(numbers) > 1)} {listed}"


def connect(
    rank: int, world_size: int, host: str, exchange: Callable[[Any], List[Any]], timeout: float
) -> ProcessBarrier:
    """Connect the processes of a job; every process must call.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
        host: Address of this machine for the others; only that of process 0 is used.
        exchange: Function that returns an object of every process, in the order of ranks.
        timeout: Timeout of the barrier, seconds.

    Raises:
        ValueError: If process 0 cannot be reached.
    """
    if rank:
        address = exchange(None)[0]
        return ProcessBarrier(rank, {0: _join(rank, **address)}, world_size, timeout)
    token = secrets.token_hex(16)
    with socket.create_server(("", 0), backlog=world_size) as server:
        exchange({"host": host, "port": server.getsockname()[1], "token": token})
        sockets: Dict[int, socket.socket] = {}
        while len(sockets) < world_size - 1:
            number, sock = _accept(server, token)
            if sock is not None:
                sockets[number] = sock
    return ProcessBarrier(0, sockets, world_size, timeout)


def _join(rank: int, host: str, port: int, token: str) -> socket.socket:
    try:
        sock = socket.create_connection((host, port))
    except OSError as error:
        raise ValueError(
            f"process {rank} cannot reach process 0 at {host}:{port} ({error}); all nodes must be able to "
            "reach each other's ports above 1024"
        ) from None
    sock.sendall(strict_json.dumps({"rank": rank, "token": token}).encode() + b"\n")
    return _tuned(sock)


def _accept(server: socket.socket, token: str) -> "tuple[int, Optional[socket.socket]]":
    """Accept a connection; return its rank and socket, or -1 and None if it does not belong to this job."""
    sock, _ = server.accept()
    sock.settimeout(_HELLO)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        with sock.makefile("rb", buffering=0) as stream:  # not buffered: the next message belongs to the barrier
            hello = json.loads(stream.readline(_LONGEST_HELLO))
        if secrets.compare_digest(str(hello["token"]), token):
            sock.settimeout(None)
            return int(hello["rank"]), _tuned(sock)
    sock.close()
    return -1, None


def _tuned(sock: socket.socket) -> socket.socket:
    """Set a socket to send without delay and to detect within two minutes that the other machine is gone."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock
