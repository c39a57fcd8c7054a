"""Cases of who gets what first: priorities, lite topics, SQL filters and broadcasting."""

import threading
import time

from clients import (
    COLLECT_LIMIT_SECONDS,
    INVISIBLE_SECONDS,
    check,
    receive_during,
    receive_until,
    sql,
)
from steps import bodies_of, check_in_order, expect_refusal, ids, send_all, wait_for_total

BROADCAST_MESSAGES = 50
# This client subscribes to the letters of a lite topic's name; only every 30 s it tells the
# broker the names themselves.
LITE_LIMIT_SECONDS = 40


def priority(clients):
    producer = clients.producer()
    for _ in range(3):
        for level in range(4):
            producer.send(clients.message(f"level-{level}", priority=level))
    got = receive_until(clients.simple(), 12)
    came = [message.priority for message in got]
    check(came == sorted(came, reverse=True), f"priorities came as {came}")
    check(bodies_of(got) == [f"level-{level}" for level in came], f"{bodies_of(got)} with {came}")


def send_light(clients, producer, names, places):
    for place in places:
        for name in names:
            producer.send(clients.message(str(place), lite_topic=name))


def light_topic(message):
    return message.lite_topic


def lite_subscribe(clients):
    consumer, listener = clients.lite_push()
    for name in ("one", "two"):
        consumer.subscribe_lite(name)
    send_light(clients, clients.producer(), ("one", "two", "three"), range(5))
    listener.wait_for(lambda got: len(got) >= 10, LITE_LIMIT_SECONDS)
    check(not listener.wait_for(lambda got: len(got) > 10, 2), "too many messages came")
    check_in_order(listener.deliveries, groups=2, each=5, name=light_topic)


def lite_unsubscribe(clients):
    consumer, listener = clients.lite_push()
    producer = clients.producer()
    for name in ("one", "two"):
        consumer.subscribe_lite(name)
    send_light(clients, producer, ("one", "two"), [0])
    check(listener.wait_for(lambda got: len(got) >= 2, LITE_LIMIT_SECONDS),
          f"{listener.count()} messages of 2 came")
    consumer.unsubscribe_lite("two")
    send_light(clients, producer, ("one", "two"), [1, 2, 3])
    listener.wait_for(lambda got: len(got) >= 5, LITE_LIMIT_SECONDS)
    listener.wait_for(lambda got: len(got) > 5, 3)
    came = sorted(f"{message.lite_topic}-{message.body.decode()}"
                  for message in listener.deliveries)
    check(came == ["one-0", "one-1", "one-2", "one-3", "two-0"], f"{came} came")


def lite_simple(clients):
    consumer = clients.lite_simple()
    for name in ("one", "two"):
        subscribe_when_ready(consumer, name)
    send_light(clients, clients.producer(), ("one", "two", "three"), range(5))
    got = receive_until(consumer, 10, LITE_LIMIT_SECONDS)
    got += [message for message, _ in receive_during(consumer, 2)]
    check_in_order(got, groups=2, each=5, name=light_topic)


def subscribe_when_ready(consumer, name):
    """The client refuses until it has the broker's settings, and does not wait for them."""
    ends = time.monotonic() + 5
    while True:
        try:
            return consumer.subscribe_lite(name)
        except Exception:
            if time.monotonic() > ends:
                raise
            time.sleep(0.05)


def send_coloured(clients):
    """Five of each: blue and heavy, blue and light, red and heavy, without any property."""
    producer = clients.producer()
    for _ in range(5):
        for colour, weight in (("blue", "20"), ("blue", "5"), ("red", "20"), (None, None)):
            message = clients.message(f"{colour}-{weight}")
            if colour:
                message.add_property("colour", colour)
                message.add_property("weight", weight)
            producer.send(message)


BLUE_AND_HEAVY = sql("colour = 'blue' AND weight > 10")


def sql_filter(clients):
    send_coloured(clients)
    consumer = clients.simple(expression=BLUE_AND_HEAVY)
    came = bodies_of(receive_until(consumer, 5))
    came += bodies_of(message for message, _ in receive_during(consumer, 2))
    check(came == ["blue-20"] * 5, f"{came} came")


def sql_filter_push(clients):
    _, listener = clients.push(expression=BLUE_AND_HEAVY)
    send_coloured(clients)
    listener.wait_for(lambda got: len(got) >= 5, COLLECT_LIMIT_SECONDS)
    listener.wait_for(lambda got: len(got) > 5, 2)
    came = bodies_of(listener.deliveries)
    check(came == ["blue-20"] * 5, f"{came} came")


def sql_null(clients):
    send_coloured(clients)
    for group, text, count, expected in (
        (clients.options.group, "colour <> 'red'", 10, {"blue-20", "blue-5"}),
        (clients.options.second_group, "colour IS NULL", 5, {"None-None"}),
    ):
        consumer = clients.simple(group=group, expression=sql(text))
        came = bodies_of(receive_until(consumer, count))
        came += bodies_of(message for message, _ in receive_during(consumer, 2))
        check(set(came) == expected and len(came) == count, f"{came} came for {text}")


def sql_broken(clients):
    def start_and_receive():
        clients.simple(expression=sql("colour = = 'blue' AND")).receive(16, INVISIBLE_SECONDS)

    return expect_refusal(start_and_receive, "ILLEGAL_FILTER_EXPRESSION", "40010")


def check_each_all(sent, *deliveries):
    for got in deliveries:
        check(sorted(ids(got)) == sorted(sent), f"{len(got)} deliveries for {len(sent)} messages")


def broadcasting(clients):
    (_, first), (_, second) = clients.push(), clients.push()
    sent = send_all(clients, BROADCAST_MESSAGES)
    wait_for_total(first, second, 2 * BROADCAST_MESSAGES)
    first.wait_for(lambda got: len(got) + second.count() > 2 * BROADCAST_MESSAGES, 2)
    check_each_all(sent, first.deliveries, second.deliveries)


def broadcasting_simple(clients):
    consumers = [clients.simple(), clients.simple()]
    # This client does not wait for the broker at its start; its first receive does.
    first_receives = [threading.Thread(target=consumer.receive, args=(1, INVISIBLE_SECONDS))
                      for consumer in consumers]
    for thread in first_receives:
        thread.start()
    for thread in first_receives:
        thread.join()
    sent = send_all(clients, BROADCAST_MESSAGES)
    got = [receive_until(consumer, BROADCAST_MESSAGES) for consumer in consumers]
    for consumer, messages in zip(consumers, got):
        messages += [message for message, _ in receive_during(consumer, 1)]
    check_each_all(sent, *got)


CASES = (
    priority, lite_subscribe, lite_unsubscribe, lite_simple, sql_filter, sql_filter_push,
    sql_null, sql_broken, broadcasting, broadcasting_simple,
)
