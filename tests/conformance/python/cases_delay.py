"""Cases of messages for later. This client sends their time in whole seconds."""

import math
import time

from clients import arrivals_until, check, receive_during, receive_until
from steps import Ask, bodies_of, expect_refusal

LATE_SECONDS = 1


def due_in(seconds):
    return math.ceil(time.time()) + seconds


def send_later(clients, producer, body, due):
    return producer.send(clients.message(body, delivery_timestamp=due))


def check_in_time(message, arrived, due, late_seconds=LATE_SECONDS):
    late = arrived - due
    check(0 <= late <= late_seconds, f"{message.body!r} came {late:.3f} s after its time")
    check(message.delivery_timestamp == due * 1000,
          f"delivery timestamp {message.delivery_timestamp} instead of {due * 1000}")
    return f"{late * 1000:.0f} ms after its time"


def delay(clients):
    producer, consumer = clients.producer(), clients.simple()
    due = due_in(3)
    send_later(clients, producer, "later", due)
    message, arrived = arrivals_until(consumer, 1)[0]
    return check_in_time(message, arrived, due)


def delay_order(clients):
    producer, consumer = clients.producer(), clients.simple()
    due = {str(seconds): due_in(seconds) for seconds in (6, 4, 2)}
    for seconds, when in due.items():
        send_later(clients, producer, seconds, when)
    arrivals = arrivals_until(consumer, 3)
    came = bodies_of(message for message, _ in arrivals)
    check(came == ["2", "4", "6"], f"came as {came}")
    for message, arrived in arrivals:
        check_in_time(message, arrived, due[message.body.decode()])


def delay_past(clients):
    producer, consumer = clients.producer(), clients.simple()
    send_later(clients, producer, "late", due_in(-60))
    sent = time.time()
    _, arrived = arrivals_until(consumer, 1)[0]
    check(arrived - sent <= 1, f"came after {arrived - sent:.1f} s")


def delay_too_far(clients):
    producer = clients.producer()
    return expect_refusal(
        lambda: send_later(clients, producer, "too far", due_in(25 * 3600)),
        "ILLEGAL_DELIVERY_TIME", "40012")


def recall(clients):
    producer, consumer = clients.producer(), clients.simple()
    due = due_in(3)
    receipt = send_later(clients, producer, "recalled", due)
    send_later(clients, producer, "neighbour", due)
    recalled = producer.recall_message(clients.options.topic, receipt.recall_handle)
    check(recalled == receipt.message_id, f"message id {recalled} was recalled")
    came = bodies_of(receive_until(consumer, 1))
    came += bodies_of(message for message, _ in receive_during(consumer, 2))
    check(came == ["neighbour"], f"{came} came")


def recall_late(clients):
    producer = clients.producer()
    receipt = send_later(clients, producer, "delivered", due_in(2))
    receive_until(clients.simple(), 1)
    return expect_refusal(
        lambda: producer.recall_message(clients.options.topic, receipt.recall_handle),
        "BAD_REQUEST", "40000", "MESSAGE_NOT_FOUND", "40401")


def delay_restart(clients):
    due = due_in(10)
    send_later(clients, clients.producer(), "pending", due)
    check(Ask("restart").done.wait(30), "the broker did not come back")
    late_seconds = LATE_SECONDS + max(0, time.time() - due)
    consumer = clients.simple()
    message, arrived = arrivals_until(consumer, 1)[0]
    detail = check_in_time(message, arrived, due, late_seconds)
    check(not receive_during(consumer, 1), "came twice")
    return detail


CASES = (
    delay, delay_order, delay_past, delay_too_far, recall, recall_late, delay_restart,
)
