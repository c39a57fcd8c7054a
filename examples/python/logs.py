"""The broker filters by tag and by SQL: consumers get the lines that they want, and no others.

    python logs.py [host:port]

Sender and receivers stand in one file here; in real life each is a program of its own.
"""

import os
import queue
import sys

from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
)
from rocketmq.grpc_protocol import FilterType  # The package itself does not offer it.

ENDPOINT = os.environ.get("PINNACE_ENDPOINT", "127.0.0.1:8081")
if len(sys.argv) > 1:
    ENDPOINT = sys.argv[1]
TOPIC = "logs"
FILTERS = {
    "alerts": FilterExpression("error || fatal"),
    "slow-requests": FilterExpression("service = 'checkout' AND duration_ms > 500", FilterType.SQL),
}
# Level, service, duration in ms, text.
LINES = [
    ("info", "checkout", 12, "cart opened"),
    ("error", "checkout", 40, "card refused"),
    ("info", "checkout", 900, "card accepted"),
    ("fatal", "search", 5, "index is gone"),
    ("info", "search", 800, "index is back"),
    ("error", "checkout", 700, "bank does not answer"),
]
EXPECTED = {
    ("alerts", "card refused"),
    ("alerts", "index is gone"),
    ("alerts", "bank does not answer"),
    ("slow-requests", "card accepted"),
    ("slow-requests", "bank does not answer"),
}
PATIENCE_SECONDS = 15
QUIET_SECONDS = 3


class Listener(MessageListener):
    def __init__(self, group, heard):
        self.group = group
        self.heard = heard

    def consume(self, message):
        self.heard.put((self.group, message.body.decode()))
        return ConsumeResult.SUCCESS


def line(level, service, duration_ms, text):
    message = Message()
    message.topic = TOPIC
    message.tag = level
    # Properties are text; SQL compares them as numbers where the other side is a number.
    message.add_property("service", service)
    message.add_property("duration_ms", str(duration_ms))
    message.body = text.encode()
    return message


def main():
    # The client insists on credentials; empty ones will do where the broker asks for none.
    configuration = ClientConfiguration(ENDPOINT, Credentials())
    heard = queue.Queue()
    consumers = []
    for group, wanted in FILTERS.items():
        consumer = PushConsumer(configuration, group, Listener(group, heard), {TOPIC: wanted})
        consumer.startup()
        consumers.append(consumer)
    producer = Producer(configuration, [TOPIC])
    producer.startup()

    for fields in LINES:
        producer.send(line(*fields))
    print(f"Sent {len(LINES)} lines.")

    got = set()
    try:
        while True:
            group, text = heard.get(timeout=QUIET_SECONDS if EXPECTED <= got else PATIENCE_SECONDS)
            print(f"{group}: {text}.")
            got.add((group, text))
    except queue.Empty:
        pass
    for client in (*consumers, producer):
        client.shutdown()
    if got != EXPECTED:
        sys.exit(f"Missing: {sorted(EXPECTED - got)}; not asked for: {sorted(got - EXPECTED)}.")
    print("Each group got the lines that its filter names, and no others.")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(f"No success with the broker at {ENDPOINT}: {error.__context__ or error}")
