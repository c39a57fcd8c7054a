"""The events of every order are handled in the order in which they happened (FIFO).

    python orders.py [host:port]

Sender and receiver stand in one file here; in a shop they are two programs.
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
TOPIC = "order-events"
GROUP = "shipping"
STEPS = ["placed", "paid", "packed", "shipped"]
PATIENCE_SECONDS = 15


class Shipping(MessageListener):
    """Called by several threads, but never for two events of one order at the same time."""

    def __init__(self):
        self.handled = queue.Queue()

    def consume(self, message):
        self.handled.put((message.message_group, message.body.decode()))
        # After FAILURE the client calls again with this event before it goes on with the order.
        return ConsumeResult.SUCCESS


def event(order, step):
    message = Message()
    message.topic = TOPIC
    message.message_group = order  # Order is kept within a message group, and only there.
    message.keys = order
    message.body = step.encode()
    return message


def main():
    # The client insists on credentials; empty ones will do where the broker asks for none.
    configuration = ClientConfiguration(ENDPOINT, Credentials())
    shipping = Shipping()
    consumer = PushConsumer(configuration, GROUP, shipping, {TOPIC: FilterExpression()})
    consumer.startup()
    producer = Producer(configuration, [TOPIC])
    producer.startup()

    day = uuid.uuid4().hex[:6]
    handled = {f"{day}-{number}": [] for number in (1, 2, 3)}
    for step in STEPS:
        for order in handled:
            producer.send(event(order, step))
    print(f"Shop: sent {len(STEPS)} events of each of {len(handled)} orders, in turn.")

    while any(len(steps) < len(STEPS) for steps in handled.values()):
        try:
            order, step = shipping.handled.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            sys.exit(f"Not every event came, only these: {handled}.")
        print(f"Shipping: order {order} was {step}.")
        if order in handled:  # Others are left from an earlier day.
            handled[order].append(step)
    consumer.shutdown()
    producer.shutdown()
    for order, steps in handled.items():
        if steps != STEPS:
            sys.exit(f"The events of order {order} came out of order: {steps}.")
    print("The events of every order were handled in the order in which they were sent.")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(f"No success with the broker at {ENDPOINT}: {error.__context__ or error}")
