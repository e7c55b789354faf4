"""Calls in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from zoomkern.training.processes import in_processes


def test_what_becomes_of_one_call_is_nothing_to_the_others(tmp_path):
    calls = {
        "fine": (f"open({str(tmp_path / 'fine')!r}, 'w')",),
        "raises": ("raise ValueError('no such thing')",),
        "exits": ("raise SystemExit(2)",),
        "killed": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)",),
        "last": (f"open({str(tmp_path / 'last')!r}, 'w')",),
    }
    ended = dict(in_processes(exec, calls, 2))
    assert ended["fine"] == ended["last"] == ""
    assert ended["raises"] == "ValueError: no such thing"
    assert ended["exits"] == "SystemExit: 2"
    assert "ended with status -9" in ended["killed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine", "last"]
    assert ended.keys() == calls.keys()


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_end_with_the_one_that_started_them(tmp_path):
    note = tmp_path / "pid"
    call = f"import os, time; print(os.getpid(), file=open({str(note)!r}, 'w'), flush=True); time.sleep(100)"
    script = f"from zoomkern.training.processes import in_processes\nlist(in_processes(exec, {{0: ({call!r},)}}, 1))"
    guarded = f"if __name__ == '__main__':\n    exec({script!r})"
    path = tmp_path / "script.py"
    path.write_text(guarded)
    parent = subprocess.Popen([sys.executable, str(path)], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    deadline = time.monotonic() + 100
    while not (note.exists() and note.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(note.read_text())
    assert is_alive(child)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)
    assert time.monotonic() < deadline


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_is_left_to_the_parent():
    """Each child has it too, and would print a traceback of its own."""
    assert list(in_processes(press_ctrl_c, {"one": ()}, 1)) == [("one", "")]
