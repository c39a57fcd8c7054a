"""Builds the official Python client's producers and consumers for one case.

What a case means stands in cases_*.py; here are only the client's own forms.
"""

import threading
import time

from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    LitePushConsumer,
    LiteSimpleConsumer,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionChecker,
    TransactionResolution,
)
from rocketmq.grpc_protocol import FilterType

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
        self._times = []
        self._changed = threading.Condition()
        self._decide = decide

    def consume(self, message):
        with self._changed:
            self.deliveries.append(message)
            self._times.append(time.monotonic())
            self._changed.notify_all()
        return ConsumeResult.SUCCESS if self._decide(message) else ConsumeResult.FAILURE

    def count(self):
        with self._changed:
            return len(self.deliveries)

    def arrivals(self):
        """Every delivery with its time."""
        with self._changed:
            return list(zip(self.deliveries, self._times))

    def wait_for(self, condition, limit_seconds):
        """Waits until condition(deliveries) holds; says whether it did."""
        with self._changed:
            return self._changed.wait_for(lambda: condition(self.deliveries), limit_seconds)


class Checker(TransactionChecker):
    """Answers the broker's questions about transactions, and remembers them."""

    def __init__(self, answer):
        self.asked = []
        self._answer = answer
        self._first = threading.Event()

    def check(self, message):
        self.asked.append((message, time.monotonic()))
        self._first.set()
        return self._answer

    def wait(self, limit_seconds):
        """Waits for the first question; says whether it came."""
        return self._first.wait(limit_seconds)


def sql(text):
    return FilterExpression(text, FilterType.SQL)


class Clients:
    """All clients of one case; they are closed together."""

    def __init__(self, options):
        self.options = options
        self._configuration = ClientConfiguration(options.endpoint, Credentials())

    def producer(self, topic=None, checker=None):
        producer = Producer(
            self._configuration, (topic or self.options.topic,), checker,
            tls_enable=self.options.tls,
        )
        producer.startup()
        return producer

    def simple(self, group=None, topic=None, expression="*", await_seconds=AWAIT_SECONDS):
        consumer = SimpleConsumer(
            self._configuration,
            group or self.options.group,
            {topic or self.options.topic: filter_of(expression)},
            await_duration=await_seconds,
            tls_enable=self.options.tls,
        )
        consumer.startup()
        return consumer

    def push(self, decide=lambda message: True, group=None, expression="*"):
        """A started push consumer and its listener."""
        listener = Listener(decide)
        consumer = PushConsumer(
            self._configuration,
            group or self.options.group,
            listener,
            {self.options.topic: filter_of(expression)},
            tls_enable=self.options.tls,
        )
        consumer.startup()
        return consumer, listener

    def lite_push(self):
        """A started push consumer of lite topics, of none yet, and its listener."""
        listener = Listener(lambda message: True)
        consumer = LitePushConsumer(
            self._configuration, self.options.group, self.options.topic, listener,
            tls_enable=self.options.tls,
        )
        consumer.startup()
        return consumer, listener

    def lite_simple(self):
        consumer = LiteSimpleConsumer(
            self.options.topic, self._configuration, self.options.group,
            await_duration=AWAIT_SECONDS, tls_enable=self.options.tls,
        )
        consumer.startup()
        return consumer

    def message(self, body, **fields):
        """A message with its fields by name, such as tag or message_group; None leaves one out."""
        message = Message()
        message.topic = self.options.topic
        message.body = body if isinstance(body, bytes) else body.encode()
        for name, value in fields.items():
            if value is not None:
                setattr(message, name, value)
        return message


def filter_of(expression):
    """Tags as text, or a filter as it is."""
    return FilterExpression(expression) if isinstance(expression, str) else expression


def receive_until(consumer, count, limit_seconds=COLLECT_LIMIT_SECONDS,
                  invisible_seconds=COLLECT_INVISIBLE_SECONDS, acknowledge=True, batch=16):
    """Receives until `count` messages came; fails when the limit passes first."""
    messages = []
    ends = time.monotonic() + limit_seconds
    while len(messages) < count and time.monotonic() < ends:
        for message in consumer.receive(batch, invisible_seconds):
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


def arrivals_until(consumer, count):
    """Receives until `count` messages came, each with its time on the wall clock."""
    arrivals = []
    ends = time.monotonic() + COLLECT_LIMIT_SECONDS
    while len(arrivals) < count and time.monotonic() < ends:
        messages, arrived = consumer.receive(16, COLLECT_INVISIBLE_SECONDS), time.time()
        for message in messages:
            arrivals.append((message, arrived))
            consumer.ack(message)
    check(len(arrivals) >= count,
          f"{len(arrivals)} of {count} messages came within {COLLECT_LIMIT_SECONDS} s")
    return arrivals
