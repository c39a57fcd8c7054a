"""Builds the official Python client's producers and consumers for one case.

What a case means stands in cases.py; here are only the client's own forms.
"""

import threading
import time

from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
)

AWAIT_SECONDS = 5
INVISIBLE_SECONDS = 10
COLLECT_LIMIT_SECONDS = 30
# Longer than any case, so that nothing collected comes back by itself.
COLLECT_INVISIBLE_SECONDS = 120


class CaseFailed(Exception):
    """The broker did not do what the case asks for."""


def check(condition, text):
    if not condition:
        raise CaseFailed(text)


class Listener(MessageListener):
    """Records every delivery and answers what the case decides."""

    def __init__(self, decide):
        self.deliveries = []
        self._changed = threading.Condition()
        self._decide = decide

    def consume(self, message):
        with self._changed:
            self.deliveries.append(message)
            self._changed.notify_all()
        return ConsumeResult.SUCCESS if self._decide(message) else ConsumeResult.FAILURE

    def count(self):
        with self._changed:
            return len(self.deliveries)

    def wait_for(self, condition, limit_seconds):
        """Waits until condition(deliveries) holds; says whether it did."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self.deliveries), limit_seconds)


class Clients:
    """All clients of one case; they are closed together."""

    def __init__(self, options):
        self.options = options
        self._configuration = ClientConfiguration(options.endpoint, Credentials())

    def producer(self, topic=None):
        producer = Producer(
            self._configuration, (topic or self.options.topic,), tls_enable=self.options.tls
        )
        producer.startup()
        return producer

    def simple(self, group=None, topic=None, expression="*", await_seconds=AWAIT_SECONDS):
        consumer = SimpleConsumer(
            self._configuration,
            group or self.options.group,
            {topic or self.options.topic: FilterExpression(expression)},
            await_duration=await_seconds,
            tls_enable=self.options.tls,
        )
        consumer.startup()
        return consumer

    def push(self, decide=lambda message: True, group=None):
        """A started push consumer and its listener."""
        listener = Listener(decide)
        consumer = PushConsumer(
            self._configuration,
            group or self.options.group,
            listener,
            {self.options.topic: FilterExpression("*")},
            tls_enable=self.options.tls,
        )
        consumer.startup()
        return consumer, listener

    def message(self, body, tag=None):
        message = Message()
        message.topic = self.options.topic
        message.body = body if isinstance(body, bytes) else body.encode()
        if tag:
            message.tag = tag
        return message


def receive_until(consumer, count, limit_seconds=COLLECT_LIMIT_SECONDS,
                  invisible_seconds=COLLECT_INVISIBLE_SECONDS, acknowledge=True):
    """Receives until `count` messages came; fails when the limit passes first."""
    messages = []
    ends = time.monotonic() + limit_seconds
    while len(messages) < count and time.monotonic() < ends:
        for message in consumer.receive(16, invisible_seconds):
            messages.append(message)
            if acknowledge:
                consumer.ack(message)
    check(len(messages) >= count,
          f"{len(messages)} of {count} messages came within {limit_seconds} s")
    return messages


def receive_during(consumer, seconds):
    """Everything that comes within the given time, each with its arrival time."""
    arrivals = []
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        for message in consumer.receive(16, COLLECT_INVISIBLE_SECONDS):
            arrivals.append((message, time.monotonic()))
    return arrivals
