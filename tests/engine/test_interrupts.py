"""What signals do to a run: the first asks it to stop, the second ends it; and what was set before is put back."""

import os
import pty
import signal
import subprocess
import sys
import threading

import pytest

from pgjax.engine import interrupts
from pgjax.runs import start

TOLD = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def heard():
    """Handlers of a caller's own, and what they heard."""
    found = []
    before = {number: signal.signal(number, lambda number, frame: found.append(number)) for number in TOLD}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", TOLD)
def test_the_first_asks_to_stop_and_the_second_does_what_it_did_before(heard, number, monkeypatch, capsys):
    monkeypatch.setattr(interrupts, "TOGETHER", 0.0)
    before = [signal.getsignal(x) for x in TOLD]
    with interrupts.interruptible() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.is_set() and stop.signal == number and not heard
        assert signal.Signals(number).name in capsys.readouterr().err
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM] and stop.signal == number
    assert [signal.getsignal(x) for x in TOLD] == before


def test_two_of_a_closing_terminal_are_one_but_ctrl_c_twice_is_not(heard):
    with interrupts.interruptible() as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGHUP and not heard
        signal.raise_signal(signal.SIGINT)
        assert heard == [signal.SIGINT]


def test_what_nohup_ignores_stays_ignored(heard):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with interrupts.interruptible() as stop:
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        signal.raise_signal(signal.SIGHUP)
        assert not stop.is_set()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_another_thread_touches_no_handler(heard):
    before, found = signal.getsignal(signal.SIGTERM), []

    def inside():
        with interrupts.interruptible() as stop:
            found.append((stop.is_set(), signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert found == [(False, True)]


def test_a_program_that_called_a_run_ends_as_its_signal_ends_it(heard):
    interrupts.end(None)
    interrupts.end(signal.SIGINT)
    assert not heard
    interrupts.end(signal.SIGTERM)
    assert heard == [signal.SIGTERM]


# A terminal, of which the process is the session's leader; what it says when it is gone must raise nothing.
CLOSED = """
import signal, sys, time
from pgjax.engine import interrupts
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which nohup leaves ignored
with interrupts.interruptible() as stop:
    print("ready", flush=True)
    stop.wait(60)
    time.sleep(0.2)
    print("x" * 100, flush=True)
    print("y" * 100, file=sys.stderr, flush=True)
open(sys.argv[1], "w").write(str(stop.signal))
interrupts.end(stop.signal)
"""
# A fork, such as a simulator's worker: ended by SIGTERM as ever, deaf to what its whole terminal hears.
FORKED = """
import os, signal, sys, time
from pgjax.engine import interrupts
with interrupts.interruptible() as stop:
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    time.sleep(0.2)
    os.kill(child, signal.SIGINT)
    os.kill(child, signal.SIGHUP)
    time.sleep(0.5)
    assert os.waitpid(child, os.WNOHANG) == (0, 0)
    os.kill(child, signal.SIGTERM)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), stop.is_set())
"""


@pytest.mark.slow
def test_a_terminal_that_closes(tmp_path):
    leader, follower = pty.openpty()
    command = ["setsid", "--ctty", sys.executable, "-c", CLOSED, str(tmp_path / "said")]
    with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower) as process:
        os.close(follower)
        assert b"ready" in os.read(leader, 1000)
        os.close(leader)
        assert process.wait(100) == -signal.SIGHUP
    assert (tmp_path / "said").read_text() == str(int(signal.SIGHUP))


@pytest.mark.slow
def test_a_fork_is_ended_by_sigterm_alone():
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == [str(-signal.SIGTERM), "False"], done.stderr


def test_a_signal_in_the_last_segment_ends_the_program_once_the_run_is_written(heard, tmp_path):
    """The run is whole, and whoever sent the signal still waits for the program that made it."""
    small = {"num_envs": 2, "hidden": (4,), "eval_episodes": 1, "env.max_steps_in_episode": 5}
    job = start.new_job("reinforce", "CartPole-v1", updates=1, settings=small, out=tmp_path / "run")
    told = lambda *segment: signal.raise_signal(signal.SIGTERM)  # noqa: E731
    result = start.execute(job, progress=False, watch=told)
    assert not result.interrupted and result.signal == signal.SIGTERM and not heard
    interrupts.end(result.signal)
    assert heard == [signal.SIGTERM]
