"""Every process that the driver started and that still runs, so that none outlives it."""

import os
import signal
import subprocess
import threading

_running: set[subprocess.Popen] = set()
_lock = threading.Lock()


def start(command, **more):
    """Starts a process in a group of its own."""
    with _lock:
        process = subprocess.Popen(command, start_new_session=True, **more)
        _running.add(process)
        return process


def kill(process):
    """Kills the process with its group, if it still runs, and takes its end."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with _lock:
        _running.discard(process)


def end_with_driver():
    """From here on a stopped driver takes its processes along."""

    def stop(number, _frame):
        # No lock: the thread that was interrupted may hold it, and nothing runs after this.
        for process in list(_running):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        os._exit(128 + number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
