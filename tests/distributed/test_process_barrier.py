"""The barrier releases all processes together, and names a process that ends, fails or does not arrive."""

import json
import os
import signal
import socket
import threading
import time

import pytest

from plsc.distributed import process_barrier
from plsc.distributed.process_barrier import ProcessBarrier
from plsc.errors import JobError

PATIENCE = 30  # seconds; reached only if a test fails


def barriers(count, timeout=PATIENCE):
    """Barriers of a job whose processes are threads."""
    pairs = {rank: socket.socketpair() for rank in range(1, count)}
    leader = ProcessBarrier(0, {rank: pair[0] for rank, pair in pairs.items()}, count, timeout)
    return [leader, *(ProcessBarrier(rank, {0: pair[1]}, count, timeout) for rank, pair in pairs.items())]


def in_threads(*calls):
    """Run calls in threads; return their results or exceptions."""
    results = [None] * len(calls)

    def run(number):
        try:
            results[number] = calls[number]()
        except Exception as error:  # noqa: BLE001 - the test compares it
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return results


def texts(results):
    assert all(isinstance(result, JobError) for result in results), results
    return [str(result) for result in results]


def test_no_process_passes_before_the_last_arrives():
    jobs = barriers(3)
    passed = []
    threads = [threading.Thread(target=lambda job=job: (job.wait("a"), passed.append(job.rank))) for job in jobs[:2]]
    for thread in threads:
        thread.start()
    threads[0].join(0.2)
    assert passed == []
    jobs[2].wait("a")
    for thread in threads:
        thread.join(PATIENCE)
    assert sorted(passed) == [0, 1]


def test_the_barrier_can_be_reused():
    jobs = barriers(3)
    order = []

    def run(job):
        for number in range(50):
            job.wait(str(number))
            order.append(number)

    assert in_threads(*(lambda job=job: run(job) for job in jobs)) == [None] * 3
    assert sorted(order) == sorted(list(range(50)) * 3)


def test_a_process_that_has_ended_is_named_to_all():
    jobs = barriers(3)
    jobs[2].close()
    found = texts(in_threads(lambda: jobs[0].wait("the report"), lambda: jobs[1].wait("the report")))
    assert found[0] == found[1]
    assert found[0].startswith("process 2 of 3 has ended, while process 0 waits for it at the report")


def test_process_0_has_ended():
    jobs = barriers(2)
    jobs[0].close()
    (found,) = texts(in_threads(lambda: jobs[1].wait("the gradients")))
    assert found.startswith("process 0 of 2 has ended, while process 1 waits for it at the gradients")


@pytest.mark.parametrize("guilty", [0, 1])
def test_the_reason_of_a_failure_reaches_all(guilty):
    jobs = barriers(3)
    jobs[guilty].fail("no space left", user_error=True)
    others = [job for job in jobs if job.rank != guilty]
    results = in_threads(*(lambda job=job: job.wait("a sum") for job in others))
    assert texts(results) == [f"process {guilty} of 3 failed: no space left"] * 2
    assert all(result.user_error for result in results)
    (again,) = texts(in_threads(lambda: others[0].wait("a sum")))
    assert again == f"process {guilty} of 3 failed: no space left"


def test_processes_at_different_places():
    jobs = barriers(2)
    found = texts(in_threads(lambda: jobs[0].wait("the gradients"), lambda: jobs[1].wait("a sum")))
    assert found[0] == found[1]
    assert "process 0 at the gradients, process 1 at a sum; check that all have the same data" in found[0]


def test_a_late_process_is_named_in_all_processes():
    jobs = barriers(4, timeout=0.3)
    found = texts(in_threads(*(lambda job=job: job.wait("the update") for job in jobs[:2])))
    assert found[0] == found[1]
    assert found[0].startswith("process 0 of 4 waited 0.3 seconds at the update for processes 2, 3; ")
    assert "DistributedStrategy.collective_timeout" in found[0]


def test_process_0_is_late(monkeypatch):
    monkeypatch.setattr(process_barrier, "_MARGIN", 0.0)
    jobs = barriers(3, timeout=0.3)
    (found,) = texts(in_threads(lambda: jobs[1].wait("the update")))
    assert found.startswith("process 1 of 3 waited 0.3 seconds at the update for process 0")
    (late,) = texts(in_threads(lambda: jobs[0].wait("the update")))
    assert late.startswith(found) and late.endswith("; process 2 had not arrived at the update")


def test_time_in_which_the_process_was_suspended_does_not_count(monkeypatch):
    """A wait of 1,000 seconds by the clock counts as 1 second if its slice is 1 second."""
    monkeypatch.setattr(process_barrier, "_SLICE", 0.01)
    ticks = iter(range(0, 10**9, 1000))
    monkeypatch.setattr(process_barrier.time, "monotonic", lambda: float(next(ticks)))
    jobs = barriers(2, timeout=900)
    waits = threading.Thread(target=jobs[0].wait, args=("a",))
    waits.start()
    waits.join(0.3)
    assert waits.is_alive()
    jobs[1].wait("a")
    waits.join(PATIENCE)
    assert not waits.is_alive()


def test_process_0_reports_the_missing_processes(monkeypatch, capsys):
    monkeypatch.setattr(process_barrier, "_SAY_AFTER", 0.0)
    monkeypatch.setattr(process_barrier, "_SLICE", 0.01)
    jobs = barriers(3)
    waits = threading.Thread(target=jobs[0].wait, args=("the report",))
    waits.start()
    waits.join(0.3)
    in_threads(lambda: jobs[1].wait("the report"), lambda: jobs[2].wait("the report"))
    waits.join(PATIENCE)
    assert capsys.readouterr().err.splitlines() == ["process 0 is waiting at the report for processes 1, 2"]


def connected(count, exchange_first=lambda address: address):
    """Barriers returned by `connect`, called by one thread per process."""
    shared, known = {}, threading.Event()

    def exchange(item):
        if item is not None:
            shared.update(exchange_first(item))
            known.set()
        assert known.wait(PATIENCE)
        return [shared]

    def connect(rank):
        return process_barrier.connect(rank, count, "127.0.0.1", exchange, PATIENCE)

    return in_threads(*(lambda rank=rank: connect(rank) for rank in range(count)))


def test_processes_connect_and_refuse_foreign_connections():
    strangers = []

    def visit(address):
        for hello in (b'{"rank": 1, "token": "guessed"}\n', b"GET / HTTP/1.0\n", b""):
            sock = socket.create_connection((address["host"], address["port"]))
            sock.sendall(hello)
            sock.shutdown(socket.SHUT_WR)
            strangers.append(sock)
        return address

    jobs = connected(3, visit)
    assert [job.rank for job in jobs] == [0, 1, 2]
    assert in_threads(*(lambda job=job: job.wait("a") for job in jobs)) == [None] * 3
    for sock in strangers:
        sock.settimeout(PATIENCE)
        assert sock.recv(1) == b""


def test_the_first_message_may_arrive_with_the_hello_message():
    def exchange(address):
        sock = socket.create_connection((address["host"], address["port"]))
        sock.sendall(json.dumps({"rank": 1, "token": address["token"]}).encode() + b"\n" + b'{"at": "a"}\n')
        sockets.append(sock)
        return [address]

    sockets = []
    process_barrier.connect(0, 2, "127.0.0.1", exchange, PATIENCE).wait("a")
    sockets[0].settimeout(PATIENCE)
    assert json.loads(sockets[0].recv(100)) == {"go": True}
    sockets[0].close()


def test_process_0_that_cannot_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    address = {"host": "127.0.0.1", "port": port, "token": ""}
    with pytest.raises(ValueError, match=f"process 1 cannot reach process 0 at 127.0.0.1:{port}"):
        process_barrier.connect(1, 2, "127.0.0.1", lambda item: [address, None], PATIENCE)


def test_a_killed_process_is_noticed_although_its_child_lives():
    """A loader worker that outlives the process must not keep its connections open."""
    ours, theirs = socket.socketpair()
    child_lives, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        ProcessBarrier(1, {0: theirs}, 2, PATIENCE)
        child = os.fork()
        if child == 0:
            time.sleep(PATIENCE)
            os._exit(0)
        os.write(tell, f"{child}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
    theirs.close()
    child = int(os.read(child_lives, 20))
    try:
        leader = ProcessBarrier(0, {1: ours}, 2, PATIENCE)
        assert "process 1 of 2 has ended" in texts(in_threads(lambda: leader.wait("a")))[0]
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(pid, 0)
