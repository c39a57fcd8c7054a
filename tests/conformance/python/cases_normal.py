"""Cases of ordinary messages, of their delivery, and of the broker's restart."""

import statistics
import threading
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
    Ask,
    check_dead_letter,
    expect_refusal,
    ids,
    send_all,
    send_poison,
    wait_for_total,
)

PUSH_MESSAGES = 200


def send(clients):
    receipt = clients.producer().send(clients.message("hello"))
    check(receipt.message_id, "the receipt has no message id")
    return f"message id {receipt.message_id}"


def properties(clients):
    message = clients.message("hello", tag="tag-a")
    message.keys = "key-1"
    message.keys = "key-2"
    message.add_property("colour", "blue")
    message.add_property("name", "gr\u00fcn")
    receipt = clients.producer().send(message)
    got = receive_until(clients.simple(), 1)[0]
    check(got.message_id == receipt.message_id, f"message id {got.message_id}")
    check(got.topic == clients.options.topic, f"topic {got.topic}")
    check(got.body == b"hello", f"body {got.body!r}")
    check(got.tag == "tag-a", f"tag {got.tag}")
    check(got.keys == {"key-1", "key-2"}, f"keys {got.keys}")
    check(got.properties == {"colour": "blue", "name": "gr\u00fcn"}, f"properties {got.properties}")
    check(got.delivery_attempt == 1, f"delivery attempt {got.delivery_attempt}")
    check(not got.corrupted, "the client calls the body corrupted")


def pattern(size):
    block = bytes((n * 31 + size) % 251 for n in range(251))
    return (block * (size // 251 + 1))[:size]


def bodies(clients):
    sizes = [1, 1024, 1024 * 1024, clients.options.large_body_bytes]
    producer = clients.producer()
    for size in sizes:
        producer.send(clients.message(pattern(size)))
    got = receive_until(clients.simple(), len(sizes))
    check(sorted(len(message.body) for message in got) == sizes,
          f"sizes {[len(message.body) for message in got]}")
    for message in got:
        check(message.body == pattern(len(message.body)), f"{len(message.body)} bytes changed")
        check(not message.corrupted, f"the client calls {len(message.body)} bytes corrupted")
    return f"up to {sizes[-1]} bytes"


def ack(clients):
    send_all(clients, 3)
    consumer = clients.simple()
    received = time.monotonic()
    receive_until(consumer, 3, invisible_seconds=INVISIBLE_SECONDS)
    late = receive_during(consumer, received + INVISIBLE_SECONDS + 3 - time.monotonic())
    check(not late, f"{len(late)} acknowledged messages came again")


def redelivery(clients):
    sent = send_all(clients, 1)
    consumer = clients.simple()
    first = receive_until(consumer, 1, invisible_seconds=INVISIBLE_SECONDS, acknowledge=False)[0]
    received = time.monotonic()
    check(first.delivery_attempt == 1, f"first delivery attempt {first.delivery_attempt}")
    again = receive_until(consumer, 1)[0]
    waited = time.monotonic() - received
    check(ids([again]) == sent, "another message came")
    check(again.delivery_attempt == 2, f"second delivery attempt {again.delivery_attempt}")
    check(INVISIBLE_SECONDS - EARLY_SECONDS <= waited <= INVISIBLE_SECONDS + 6,
          f"came again after {waited:.1f} s")
    return f"came again after {waited:.1f} s"


def change_invisible(clients):
    send_all(clients, 2)
    consumer = clients.simple()
    later, done = receive_until(consumer, 2, invisible_seconds=INVISIBLE_SECONDS,
                                acknowledge=False)
    changed = time.monotonic()
    consumer.change_invisible_duration(later, INVISIBLE_SECONDS + 4)
    consumer.change_invisible_duration(done, INVISIBLE_SECONDS + 1)
    consumer.ack(done)
    arrivals = receive_during(consumer, INVISIBLE_SECONDS + 6)
    check(ids(message for message, _ in arrivals) == [later.message_id],
          f"{len(arrivals)} messages came instead of the one not acknowledged")
    again, arrived = arrivals[0]
    waited = arrived - changed
    check(waited >= INVISIBLE_SECONDS + 4 - EARLY_SECONDS, f"came again after {waited:.1f} s")
    check(again.delivery_attempt == 2, f"delivery attempt {again.delivery_attempt}")
    consumer.ack(again)
    return f"came again after {waited:.1f} s"


def push(clients):
    _, listener = clients.push()
    sent = send_all(clients, PUSH_MESSAGES)
    listener.wait_for(lambda got: len(got) >= PUSH_MESSAGES, COLLECT_LIMIT_SECONDS)
    check(not listener.wait_for(lambda got: len(got) > PUSH_MESSAGES, 3), "a message came twice")
    check(sorted(ids(listener.deliveries)) == sorted(sent),
          f"{listener.count()} deliveries for {PUSH_MESSAGES} messages")


def push_retry(clients):
    _, listener = clients.push(lambda message: message.delivery_attempt > 1)
    sent = send_all(clients, 1)
    listener.wait_for(lambda got: len(got) >= 2, 40)
    check(not listener.wait_for(lambda got: len(got) > 2, 2), "came a third time")
    check(ids(listener.deliveries) == sent * 2, f"{listener.count()} deliveries")
    attempts = [message.delivery_attempt for message in listener.deliveries]
    check(attempts == [1, 2], f"delivery attempts {attempts}")


def tag_filter(clients):
    producer = clients.producer()
    for n in range(5):
        for tag in ("a", "b", "c", None):
            producer.send(clients.message(f"{tag}-{n}", tag=tag))
    consumer = clients.simple(expression="a || b")
    got = receive_until(consumer, 10)
    got += [message for message, _ in receive_during(consumer, 2)]
    tags = sorted(message.tag or "" for message in got)
    check(tags == ["a"] * 5 + ["b"] * 5, f"tags {tags}")


def point_to_point(clients):
    _, first = clients.push()
    _, second = clients.push()
    sent = send_all(clients, PUSH_MESSAGES)
    wait_for_total(first, second, PUSH_MESSAGES)
    first.wait_for(lambda got: len(got) + second.count() > PUSH_MESSAGES, 3)
    handled = ids(first.deliveries) + ids(second.deliveries)
    check(sorted(handled) == sorted(sent),
          f"{len(handled)} deliveries for {PUSH_MESSAGES} messages")
    check(first.count() and second.count(), "one consumer got everything")
    return f"{first.count()} and {second.count()}"


def publish_subscribe(clients):
    _, first = clients.push()
    _, second = clients.push(group=clients.options.second_group)
    sent = sorted(send_all(clients, PUSH_MESSAGES))
    for listener in (first, second):
        listener.wait_for(lambda got: len(got) >= PUSH_MESSAGES, COLLECT_LIMIT_SECONDS)
        check(sorted(ids(listener.deliveries)) == sent,
              f"{listener.count()} deliveries for {PUSH_MESSAGES} messages")


def dead_letter(clients):
    sent = send_poison(clients)
    consumer = clients.simple()
    for attempt in (1, 2):
        message = receive_until(consumer, 1, invisible_seconds=INVISIBLE_SECONDS,
                                acknowledge=False)[0]
        check(message.delivery_attempt == attempt, f"delivery attempt {message.delivery_attempt}")
        consumer.change_invisible_duration(message, 1)
    check(not receive_during(consumer, 2), "came a third time")
    return check_dead_letter(clients, sent)


def push_dead_letter(clients):
    _, listener = clients.push(lambda message: False)
    sent = send_poison(clients)
    listener.wait_for(lambda got: len(got) >= 2, 40)
    detail = check_dead_letter(clients, sent)
    attempts = [message.delivery_attempt for message in listener.deliveries]
    check(attempts == [1, 2], f"delivery attempts {attempts}")
    return detail


def unknown_topic(clients):
    topic = clients.options.unknown_topic

    def start_and_send():
        producer = clients.producer(topic)
        message = clients.message("nowhere")
        message.topic = topic
        producer.send(message)

    return expect_refusal(start_and_send, "TOPIC_NOT_FOUND", "40402", topic)


def wrong_type(clients):
    message = clients.message("ordered")
    message.message_group = "order-1"
    return expect_refusal(lambda: clients.producer().send(message), "type", "TYPE", "40014")


def oversize(clients):
    message = clients.message(bytes(4 * 1024 * 1024 + 1))
    return expect_refusal(
        lambda: clients.producer().send(message), "size", "large", "LARGE", "4194304", "exceed")


def tls(clients):
    sent = send_all(clients, 3)
    got = receive_until(clients.simple(), 3)
    check(sorted(ids(got)) == sorted(sent), f"{len(got)} messages")


def send_through_restart(clients, producer):
    """Sends all the time while the broker goes and comes; the ids which were answered."""
    sent, errors, after = [], 0, 0
    restart = Ask("restart")
    ends = time.monotonic() + 45
    while after < 20:
        check(time.monotonic() < ends, f"the producer did not recover ({errors} errors)")
        restarted = restart.done.is_set()
        try:
            sent.append(producer.send(clients.message("through the restart")).message_id)
            after += restarted
        except Exception:
            errors += 1
        time.sleep(0.05)
    return sent, errors


def restart(clients):
    producer, consumer = clients.producer(), clients.simple()
    before = [producer.send(clients.message(f"before-{n}")).message_id for n in range(20)]
    done = set(ids(receive_until(consumer, 10, invisible_seconds=INVISIBLE_SECONDS)))
    sent, errors = send_through_restart(clients, producer)
    expected, got = set(before + sent) - done, set()
    ends = time.monotonic() + COLLECT_LIMIT_SECONDS
    while expected - got and time.monotonic() < ends:
        try:
            got.update(ids(receive_until(consumer, 1, 6, INVISIBLE_SECONDS)))
        except Exception:
            time.sleep(0.1)
    check(not expected - got, f"{len(expected - got)} of {len(expected)} messages lost")
    check(not done & got, f"{len(done & got)} acknowledged messages came again")
    return f"{len(before) + len(sent)} sent, {errors} sends failed meanwhile"


def restart_push(clients):
    producer = clients.producer()
    _, listener = clients.push()
    before = [producer.send(clients.message(f"before-{n}")).message_id for n in range(20)]
    check(listener.wait_for(lambda got: len(got) >= 20, COLLECT_LIMIT_SECONDS), "no delivery before")
    sent, errors = send_through_restart(clients, producer)
    expected = set(before + sent)
    listener.wait_for(lambda got: expected <= set(ids(got)), COLLECT_LIMIT_SECONDS)
    missing = expected - set(ids(listener.deliveries))
    check(not missing, f"{len(missing)} of {len(expected)} messages did not come")
    return f"{len(expected)} sent, {errors} sends failed meanwhile"


def long_poll(clients):
    producer, consumer = clients.producer(), clients.simple(await_seconds=10)
    delays_ms = []
    for n in range(5):
        got = []
        waiting = threading.Thread(target=lambda: got.extend(
            (message, time.monotonic()) for message in receive_until(consumer, 1)))
        waiting.start()
        time.sleep(0.5)
        began = time.monotonic()
        producer.send(clients.message(f"message-{n}"))
        waiting.join()
        check(got, "the waiting receive got nothing")
        delays_ms.append((got[0][1] - began) * 1000)
    return check_delays(delays_ms)


def check_delays(delays_ms):
    middle = statistics.median(delays_ms)
    check(middle <= 500 and max(delays_ms) <= 2000, f"median {middle:.0f} ms of {delays_ms}")
    return f"median {middle:.0f} ms"


def empty_receive(clients):
    consumer = clients.simple(await_seconds=6)
    began = time.monotonic()
    check(not consumer.receive(16, INVISIBLE_SECONDS), "a message came from nowhere")
    waited = time.monotonic() - began
    check(4.8 <= waited <= 9.5, f"returned after {waited:.1f} s")
    return f"returned after {waited:.1f} s"


def shutdown(clients):
    producer, consumer = clients.producer(), clients.simple()
    producer.send(clients.message("hello"))
    receive_until(consumer, 1)
    began = time.monotonic()
    consumer.shutdown()
    producer.shutdown()
    waited = time.monotonic() - began
    check(waited <= 10, f"took {waited:.1f} s")
    return f"took {waited:.1f} s"


def ack_twice(clients):
    send_all(clients, 1)
    consumer = clients.simple()
    message = receive_until(consumer, 1)[0]
    consumer.ack(message)
    check(not receive_during(consumer, 1), "came again")


def consumer_leaves(clients):
    leaving, first = clients.push()
    _, second = clients.push()
    producer = clients.producer()
    sent = [producer.send(clients.message(f"before-{n}")).message_id for n in range(20)]
    wait_for_total(first, second, len(sent))
    closing = threading.Thread(target=leaving.shutdown)
    closing.start()
    while closing.is_alive():
        sent.append(producer.send(clients.message("while it closes")).message_id)
        time.sleep(0.05)
    sent += [producer.send(clients.message(f"after-{n}")).message_id for n in range(20)]
    second.wait_for(lambda got: set(sent) <= set(ids(first.deliveries) + ids(got)), 5)
    missing = set(sent) - set(ids(first.deliveries) + ids(second.deliveries))
    check(not missing, f"{len(missing)} of {len(sent)} messages not handled after 5 s")
    return f"{first.count()} and {second.count()}"


CASES = (
    send, properties, bodies, ack, redelivery, change_invisible, push, push_retry, tag_filter,
    point_to_point, publish_subscribe, dead_letter, push_dead_letter, unknown_topic, wrong_type,
    oversize, tls, restart, restart_push, long_poll, empty_receive, shutdown, ack_twice,
    consumer_leaves,
)
