"""Cases of messages in order per message group."""

import time

from clients import (
    COLLECT_LIMIT_SECONDS,
    INVISIBLE_SECONDS,
    check,
    receive_during,
    receive_until,
)
from steps import (
    EARLY_SECONDS,
    bodies_of,
    check_dead_letter,
    check_in_order,
    send_in_groups,
    send_poison,
    wait_for_total,
)


def fifo_order(clients):
    send_in_groups(clients, groups=6, each=10)
    check_in_order(receive_until(clients.simple(), 60), groups=6, each=10)


def check_heard_in_order(listener, groups, each):
    total = groups * each
    listener.wait_for(lambda got: len(got) >= total, COLLECT_LIMIT_SECONDS)
    check(not listener.wait_for(lambda got: len(got) > total, 1), "a message came twice")
    check_in_order(listener.deliveries, groups, each)


def fifo_order_push(clients):
    send_in_groups(clients, groups=6, each=10)
    _, listener = clients.push()
    check_heard_in_order(listener, groups=6, each=10)


def push_while_sending(clients, groups, each):
    _, listener = clients.push()
    began = time.monotonic()
    send_in_groups(clients, groups, each)
    check_heard_in_order(listener, groups, each)
    _, last = listener.arrivals()[-1]
    return f"{groups * each} messages in {last - began:.1f} s"


def fifo_throughput(clients):
    return push_while_sending(clients, groups=20, each=25)


def fifo_many_groups(clients):
    return push_while_sending(clients, groups=150, each=2)


def send_named(clients, *names):
    """Messages "a-0" and the like; the letter is the message group."""
    producer = clients.producer()
    for name in names:
        producer.send(clients.message(name, message_group=name[0]))


def fifo_one_in_flight(clients):
    send_named(clients, "a-0", "a-1", "b-0", "b-1")
    first, second = clients.simple(), clients.simple()
    held = {}
    for message in (receive_until(first, 1, acknowledge=False, batch=1)[0] for _ in range(2)):
        held[message.body.decode()] = message
    check(sorted(held) == ["a-0", "b-0"], f"{sorted(held)} came first")
    early = receive_during(second, 1)
    check(not early, f"{bodies_of(message for message, _ in early)} came too early")
    for body in ("a", "b"):
        first.ack(held[f"{body}-0"])
        came = bodies_of(receive_until(second, 1))
        check(came == [f"{body}-1"], f"{came} came after {body}-0")


def fifo_redelivery(clients):
    send_named(clients, "a-0", "a-1", "a-2")
    consumer = clients.simple()
    receive_until(consumer, 1, invisible_seconds=INVISIBLE_SECONDS, acknowledge=False, batch=1)
    received = time.monotonic()
    again = receive_until(consumer, 1, batch=1)
    waited = time.monotonic() - received
    check(waited >= INVISIBLE_SECONDS - EARLY_SECONDS, f"came again after {waited:.1f} s")
    check(again[0].delivery_attempt == 2, f"delivery attempt {again[0].delivery_attempt}")
    came = bodies_of(again + receive_until(consumer, 2))
    check(came == ["a-0", "a-1", "a-2"], f"came as {came}")
    return f"came again after {waited:.1f} s"


def fifo_push_retry(clients):
    failed = []

    def decide(message):
        if message.body != b"a-1" or failed:
            return True
        failed.append(message)
        return False

    send_named(clients, "a-0", "b-0", "a-1", "b-1", "a-2", "b-2")
    _, listener = clients.push(decide)
    listener.wait_for(lambda got: len(got) >= 7, COLLECT_LIMIT_SECONDS)
    check(not listener.wait_for(lambda got: len(got) > 7, 1), "a message came too often")
    came = bodies_of(listener.deliveries)
    check([body for body in came if body[0] == "a"] == ["a-0", "a-1", "a-1", "a-2"],
          f"handled as {came}")
    check([body for body in came if body[0] == "b"] == ["b-0", "b-1", "b-2"], f"handled as {came}")


def fifo_dead_letter(clients):
    sent = send_poison(clients, message_group="a")
    send_named(clients, "a-1")
    consumer = clients.simple()
    for attempt in (1, 2):
        message = receive_until(consumer, 1, invisible_seconds=INVISIBLE_SECONDS,
                                acknowledge=False, batch=1)[0]
        check(message.body == b"poison", f"{message.body!r} came at attempt {attempt}")
        check(message.delivery_attempt == attempt, f"delivery attempt {message.delivery_attempt}")
        consumer.change_invisible_duration(message, 1)
    came = bodies_of(receive_until(consumer, 1))
    check(came == ["a-1"], f"{came} came after the last attempt")
    return check_dead_letter(clients, sent)


def fifo_push_dead_letter(clients):
    sent = send_poison(clients, message_group="a")
    send_named(clients, "a-1")
    _, listener = clients.push(lambda message: message.body != b"poison")
    listener.wait_for(lambda got: len(got) >= 3, COLLECT_LIMIT_SECONDS)
    detail = check_dead_letter(clients, sent)
    came = bodies_of(listener.deliveries)
    check(came == ["poison", "poison", "a-1"], f"handled as {came}")
    return detail


def fifo_two_producers(clients):
    producers = [clients.producer(), clients.producer()]
    for n in range(30):
        producers[n % 2].send(clients.message(str(n), message_group="shared"))
    check_in_order(receive_until(clients.simple(), 30), groups=1, each=30)


def fifo_point_to_point(clients):
    _, first = clients.push()
    _, second = clients.push()
    send_in_groups(clients, groups=20, each=10)
    wait_for_total(first, second, 200)
    check(not first.wait_for(lambda got: len(got) + second.count() > 200, 1),
          "a message came twice")
    both = sorted(first.arrivals() + second.arrivals(), key=lambda arrival: arrival[1])
    check_in_order([message for message, _ in both], groups=20, each=10)
    check(first.count() and second.count(), "one consumer got everything")
    return f"{first.count()} and {second.count()}"


CASES = (
    fifo_order, fifo_order_push, fifo_one_in_flight, fifo_redelivery, fifo_push_retry,
    fifo_dead_letter, fifo_push_dead_letter, fifo_two_producers, fifo_point_to_point,
    fifo_throughput, fifo_many_groups,
)
