"""Child processes: started again when they die, stopped in order, gone when their parent is gone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from loopback import wait_until

from console.children import Child, Children

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
DEAF = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)"


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pid_of(child: Child) -> int:
    assert child.process is not None
    return child.process.pid


def test_a_killed_child_is_started_again() -> None:
    """After kill -9 another process takes its place; the others are left alone."""
    one, other = Child("one", SLEEP, os.environ, pause_seconds=0.05), Child("other", SLEEP, os.environ)
    supervisor = Children([one, other])
    supervisor.start()
    try:
        first, untouched = pid_of(one), pid_of(other)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: one.starts == 2 and one.process is not None, "the second start")
        assert pid_of(one) != first
        assert pid_of(other) == untouched
        assert is_alive(pid_of(one))
    finally:
        supervisor.stop()
    assert not is_alive(untouched)


def test_a_child_that_dies_at_once_is_tried_ever_more_slowly() -> None:
    """The pause doubles, so that a broken program does not eat the machine; it is never given up."""
    broken = Child("broken", [sys.executable, "-c", "raise SystemExit(3)"], os.environ, pause_seconds=0.1)
    supervisor = Children([broken])
    supervisor.start()
    try:
        wait_until(lambda: broken.starts >= 3, "the third start")
        assert broken.pause_seconds >= 0.4
    finally:
        supervisor.stop()


def test_stop_goes_by_rounds(tmp_path: Path) -> None:
    """Children of a later round are told to stop only when those of the earlier are over."""
    slow = (
        "import signal, sys, time, pathlib\n"
        "def end(*_):\n"
        "    time.sleep(float(sys.argv[2])); pathlib.Path(sys.argv[1]).write_text(str(time.monotonic())); sys.exit(0)\n"
        "signal.signal(15, end); pathlib.Path(sys.argv[1] + '.up').touch()\n"
        "time.sleep(600)\n"
    )
    first, last = tmp_path / "first", tmp_path / "last"
    supervisor = Children(
        [
            Child("last", [sys.executable, "-c", slow, str(last), "0"], os.environ, stop_round=1),
            Child("first", [sys.executable, "-c", slow, str(first), "0.5"], os.environ, stop_round=0),
        ]
    )
    supervisor.start()
    wait_until(lambda: all(Path(f"{file}.up").exists() for file in (first, last)), "both children")
    supervisor.stop()
    assert float(first.read_text()) < float(last.read_text())


def test_a_stubborn_child_is_killed(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after its time, so that stopping is bounded."""
    out = tmp_path / "out"
    child = Child("deaf", [sys.executable, "-c", DEAF], os.environ, log_file=out, stop_seconds=0.3)
    supervisor = Children([child])
    supervisor.start()
    wait_until(lambda: out.exists() and out.read_text() != "", "the child")
    pid, begin = pid_of(child), time.monotonic()
    supervisor.stop()
    assert time.monotonic() - begin < 5
    assert not is_alive(pid)


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """Kill -9 of the parent, which can tidy up nothing, leaves no child behind."""
    parent = (
        "import os, sys, time\n"
        "from console.children import Child, Children\n"
        f"child = Child('sleeper', {SLEEP!r}, os.environ)\n"
        "Children([child]).start()\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(f'{{child.process.pid}}\\n')\n"
        "time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", parent])
    try:
        file = tmp_path / "pid"
        wait_until(lambda: file.exists() and file.read_text().endswith("\n"), "the child", process=process)
        pid = int(file.read_text())
        time.sleep(0.3)  # the child must have become its program
        assert is_alive(pid)
    finally:
        process.kill()
        process.wait()
    wait_until(lambda: not is_alive(pid), "the end of the child", timeout_seconds=10)


def test_ctrl_c_of_a_terminal_does_not_reach_children() -> None:
    """Children live in sessions of their own: the parent alone decides about their order."""
    child = Child("sleeper", SLEEP, os.environ)
    supervisor = Children([child])
    supervisor.start()
    try:
        assert os.getsid(pid_of(child)) == pid_of(child) != os.getsid(0)
    finally:
        supervisor.stop()
