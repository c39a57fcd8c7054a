"""Every group gets every event; in a broadcasting group, every consumer does (publish-subscribe).

    python notifications.py [host:port]

Sender and receivers stand in one file here; in a shop each is a program of its own.
"""

import os
import queue
import sys
import uuid

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

ENDPOINT = os.environ.get("PINNACE_ENDPOINT", "127.0.0.1:8081")
if len(sys.argv) > 1:
    ENDPOINT = sys.argv[1]
TOPIC = "notifications"
# Who listens, and for which group. The two web servers are consumers of the same group: it is
# its manifest that makes it a broadcasting group, nothing in the program says so.
LISTENERS = {
    "email": "email",
    "sms": "sms",
    "audit": "audit",
    "web server 1": "web-cache",
    "web server 2": "web-cache",
}
PATIENCE_SECONDS = 15


class Listener(MessageListener):
    def __init__(self, name, heard):
        self.name = name
        self.heard = heard

    def consume(self, message):
        self.heard.put((self.name, message.body.decode()))
        return ConsumeResult.SUCCESS


def main():
    # The client insists on credentials; empty ones will do where the broker asks for none.
    configuration = ClientConfiguration(ENDPOINT, Credentials())
    heard = queue.Queue()
    consumers = []
    for name, group in LISTENERS.items():
        consumer = PushConsumer(
            configuration, group, Listener(name, heard), {TOPIC: FilterExpression()}
        )
        consumer.startup()
        consumers.append(consumer)
    producer = Producer(configuration, [TOPIC])
    producer.startup()

    order = uuid.uuid4().hex[:6]
    events = [f"order {order} was {step}" for step in ("placed", "paid", "shipped")]
    for event in events:
        message = Message()
        message.topic = TOPIC
        message.body = event.encode()
        producer.send(message)
        print(f"Shop: {event}.")

    missing = {(name, event) for name in LISTENERS for event in events}
    while missing:
        try:
            name, event = heard.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            sys.exit(f"These did not hear of everything: {sorted(missing)}.")
        print(f"{name}: heard that {event}.")
        missing.discard((name, event))
    for client in (*consumers, producer):
        client.shutdown()
    print("Each of the three groups and both web servers heard of every event.")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(f"No success with the broker at {ENDPOINT}: {error.__context__ or error}")
