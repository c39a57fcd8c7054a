"""Cases of what an operator does: dead letters brought back, progress set anew."""

import datetime
import math
import time

from clients import INVISIBLE_SECONDS, check, receive_during, receive_until
from steps import Ask, bodies_of, check_dead_letter, ids, receive_dead_letter, send_all, send_poison


def let_die(consumer):
    """Two failed attempts; the message as it was delivered."""
    for _ in range(2):
        message = receive_until(consumer, 1, invisible_seconds=INVISIBLE_SECONDS,
                                acknowledge=False)[0]
        consumer.change_invisible_duration(message, 1)
    return message


def dead_letter_origin(clients):
    send_poison(clients)
    origin = let_die(clients.simple())
    dead = receive_dead_letter(clients)[0]
    for what in ("message_id", "body", "tag", "keys", "properties", "born_host",
                 "born_timestamp"):
        was, is_now = getattr(origin, what), getattr(dead, what)
        check(is_now == was, f"{what} {is_now} instead of {was}")
    check(dead.delivery_attempt == 1, f"delivery attempt {dead.delivery_attempt}")
    return f"topic {dead.topic}"


def ask(event, **more):
    check(Ask(event, **more).done.wait(30), f"the driver did not answer to {event}")


def redrive(clients):
    sent = send_poison(clients)
    consumer = clients.simple()
    let_die(consumer)
    check_dead_letter(clients, sent)
    ask("redrive")
    message = receive_until(consumer, 1)[0]
    check(message.body == b"poison", f"body {message.body!r}")
    check(message.tag == "tag-a", f"tag {message.tag}")
    check(message.delivery_attempt == 1, f"delivery attempt {message.delivery_attempt}")
    return "message id kept" if ids([message]) == sent else "new message id"


def reset_earliest(clients):
    sent = send_all(clients, 20)
    consumer = clients.simple()
    receive_until(consumer, 20)
    ask("reset", to="earliest")
    again = receive_until(consumer, 20)
    check(sorted(ids(again)) == sorted(sent), f"{len(again)} messages came again")


def reset_timestamp(clients):
    before = send_all(clients, 10)
    between = math.ceil(time.time())
    time.sleep(between - time.time())
    after = send_all(clients, 10)
    consumer = clients.simple()
    receive_until(consumer, len(before) + len(after))
    moment = datetime.datetime.fromtimestamp(between, datetime.timezone.utc)
    ask("reset", to=moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
    again = receive_until(consumer, 10)
    again += [message for message, _ in receive_during(consumer, 1)]
    check(sorted(ids(again)) == sorted(after), f"{len(again)} messages came again")


def reset_latest(clients):
    send_all(clients, 10)
    consumer = clients.simple()
    receive_until(consumer, 1, batch=1)
    ask("reset", to="latest")
    send_all(clients, 1, prefix="next")
    came = bodies_of(receive_until(consumer, 1))
    came += bodies_of(message for message, _ in receive_during(consumer, 1))
    check(came == ["next-0"], f"{came} came")


CASES = (dead_letter_origin, redrive, reset_earliest, reset_timestamp, reset_latest)
