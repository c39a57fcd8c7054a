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
        self.binary = str(binary)
        self.data = pathlib.Path(tempfile.mkdtemp(prefix="pinnace-conformance-data-"))
        self.endpoint, self.http, self.admin = free_addresses(3)
        self._log_path = log_path
        self._more = more
        self._process = None

    def start(self):
        with open(self._log_path, "ab") as log:
            self._process = processes.start(
                [self.binary, "serve", "--data", str(self.data), "--listen", self.endpoint,
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

    def kill_and_start(self):
        """kill -9, then the same data on the same ports."""
        processes.kill(self._process)
        self.start()

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

    def _command(self, *words):
        done = subprocess.run(
            [self.binary, *words, "--admin", self.admin],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=COMMAND_LIMIT_SECONDS,
        )
        if done.returncode != 0:
            said = " ".join((done.stderr or done.stdout).split())
            raise BrokerFailed(f"pinnace {' '.join(words)}: {said}")

    def create_topic(self, name, case):
        self._command("topic", "create", name, "--type", case.message_type,
                      "--queues", str(case.queues))

    def create_group(self, name, topic, case):
        """The consumer group that the case is about."""
        self._command(
            "group", "create", name, "--order", case.order, "--model", case.model,
            *(["--max-attempts", str(case.max_attempts)] if case.max_attempts else []),
            *(["--lite-topic", topic] if case.is_lite else []),
        )

    def create_plain_group(self, name):
        self._command("group", "create", name)

    def reset_group(self, name, topic, to):
        self._command("group", "reset", name, "--topic", topic, "--to", to)

    def redrive(self, group):
        self._command("dead-letter", "redrive", group)
