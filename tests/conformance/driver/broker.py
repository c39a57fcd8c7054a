"""A real broker process on free ports of the loopback, and its command line."""

import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request

from driver import processes

READY_LIMIT_SECONDS = 30
STOP_LIMIT_SECONDS = 15
COMMAND_LIMIT_SECONDS = 30


class BrokerFailed(Exception):
    """The broker or its command line did not do what it should."""


def free_addresses(count):
    """Addresses nobody listens on; all are held until all are found."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{held.getsockname()[1]}" for held in sockets]
    for held in sockets:
        held.close()
    return addresses


class Broker:
    """`pinnace serve` on a data directory of its own, with more arguments if there are any."""

    def __init__(self, binary, log_path, *more):
        self.binary = pathlib.Path(binary)
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="pinnace-conformance-data-"))
        self.endpoint, self.http, self.admin = free_addresses(3)
        self._log_path = log_path
        self._more = more
        self._process = None

    def start(self):
        with open(self._log_path, "ab") as log:
            self._process = processes.start(
                [str(self.binary), "serve", "--data", str(self.data), "--listen", self.endpoint,
                 "--http", self.http, "--admin", self.admin, *self._more],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        ends = time.monotonic() + READY_LIMIT_SECONDS
        while not self._ready():
            if self._process.poll() is not None:
                raise BrokerFailed(f"the broker ended with {self._process.returncode}, "
                                   f"see {self._log_path}")
            if time.monotonic() > ends:
                raise BrokerFailed(f"the broker is not ready after {READY_LIMIT_SECONDS} s, "
                                   f"see {self._log_path}")
            time.sleep(0.05)
        return self

    def _ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def running(self):
        return self._process is not None and self._process.poll() is None

    def kill(self):
        """kill -9; what it stored stays."""
        processes.kill(self._process)

    def stop(self):
        """Ends the broker and removes its data."""
        if self.running():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                print(f"the broker did not stop within {STOP_LIMIT_SECONDS} s of SIGTERM")
        if self._process is not None:
            processes.kill(self._process)
        shutil.rmtree(self.data, ignore_errors=True)

    def command(self, *words):
        """A verb of the command line, on this broker."""
        execute(self.binary, *words, "--admin", self.admin)


def execute(program, *words):
    """Runs a program to its end, which is to be a good one."""
    done = subprocess.run(
        [str(program), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=COMMAND_LIMIT_SECONDS,
    )
    if done.returncode != 0:
        said = " ".join((done.stderr or done.stdout).split())
        raise BrokerFailed(f"{pathlib.Path(program).name} {' '.join(words)}: {said}")
