"""The brokers of a run: how many there are, how many shards each has, and what is done to all.

Topics, groups and resets reach several brokers as the operator sends them: each broker gets
them. Clients are told of one broker only, and learn of the others from the routes.
"""

import dataclasses
import ssl

from driver.broker import Broker, execute


@dataclasses.dataclass(frozen=True)
class Layout:
    """How many shards each broker has."""

    name: str
    title: str
    shards: tuple[int, ...]


LAYOUTS = [
    Layout("one-shard", "one broker with one shard", (1,)),
    Layout("three-shards", "one broker with three shards", (3,)),
    Layout("two-brokers", "two brokers with two shards each", (2, 2)),
]


class Cluster:
    """The brokers of a layout, each a process of its own."""

    def __init__(self, layout, binary, tool, log_path):
        self._tool = tool
        self._brokers, self._names = [], []
        begin = 0
        for number, count in enumerate(layout.shards):
            ids = ",".join(str(begin + n) for n in range(count))
            begin += count
            broker = Broker(binary, log_path.with_stem(f"{log_path.stem}-{number}"),
                            "--broker-id", str(number), "--shard-ids", ids)
            self._brokers.append(broker)
            self._names.append(f"{broker.endpoint}/{broker.admin}/{ids}")
        self.endpoint = self._brokers[0].endpoint

    def start(self):
        for broker in self._brokers:
            broker.start()
        if len(self._brokers) > 1:
            execute(self._tool, "map", *self._names)
        return self

    def running(self):
        return all(broker.running() for broker in self._brokers)

    def certificates(self):
        """Of all brokers, for clients that verify."""
        addresses = [broker.endpoint.split(":") for broker in self._brokers]
        return "".join(ssl.get_server_certificate((host, int(port))) for host, port in addresses)

    def kill_and_start(self):
        """kill -9 for all at once, then the same data on the same ports."""
        for broker in self._brokers:
            broker.kill()
        for broker in self._brokers:
            broker.start()

    def stop(self):
        """Ends the brokers and removes their data."""
        for broker in self._brokers:
            broker.stop()

    def _command(self, *words):
        for broker in self._brokers:
            broker.command(*words)

    def create_topic(self, name, case):
        if len(self._brokers) > 1:
            execute(self._tool, "topic", name, case.message_type, str(case.queues), *self._names)
        else:
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
