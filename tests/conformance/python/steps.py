"""Steps that several cases take."""

import json
import sys
import threading
import time
from collections import defaultdict

from clients import COLLECT_LIMIT_SECONDS, CaseFailed, check, receive_until

# How much earlier than its duration a lease may end: clocks and rounding of two processes.
EARLY_SECONDS = 0.5


def ids(messages):
    return [message.message_id for message in messages]


def bodies_of(messages):
    return [message.body.decode() for message in messages]


def send_all(clients, count, prefix="message"):
    producer = clients.producer()
    return [producer.send(clients.message(f"{prefix}-{n}")).message_id for n in range(count)]


def send_in_groups(clients, groups, each):
    """Every message group in turn; a body is its place in the group."""
    producer = clients.producer()
    for n in range(each):
        for group in range(groups):
            producer.send(clients.message(str(n), message_group=f"group-{group}"))


def check_in_order(messages, groups, each, name=lambda message: message.message_group):
    """Each group is there from first to last, nothing twice."""
    got = defaultdict(list)
    for message in messages:
        got[name(message)].append(int(message.body))
    check(len(got) == groups, f"{len(got)} groups of {groups}: {sorted(got)[:10]}")
    for group, places in got.items():
        check(places == list(range(each)), f"{group} came as {places}")


def wait_for_total(first, second, total):
    """Until two listeners together had so many deliveries."""
    ends = time.monotonic() + COLLECT_LIMIT_SECONDS
    while first.count() + second.count() < total and time.monotonic() < ends:
        first.wait_for(lambda got: len(got) + second.count() >= total, 0.1)


def send_poison(clients, **fields):
    message = clients.message("poison", tag="tag-a", **fields)
    message.keys = "key-1"
    message.add_property("colour", "blue")
    return [clients.producer().send(message).message_id]


def receive_dead_letter(clients):
    """The group's dead letter topic may appear with the first dead letter; this client
    starts without the route and fails at the receive."""
    ends = time.monotonic() + COLLECT_LIMIT_SECONDS
    while True:
        try:
            consumer = clients.simple(
                group=clients.options.second_group, topic=f"%DLQ%{clients.options.group}"
            )
            return receive_until(consumer, 1, 6)
        except Exception:
            if time.monotonic() > ends:
                raise
            time.sleep(0.5)


def check_dead_letter(clients, sent):
    got = receive_dead_letter(clients)
    check(bodies_of(got) == ["poison"], "another message is in the dead letters")
    check(got[0].tag == "tag-a", f"tag {got[0].tag}")
    check(got[0].properties.get("colour") == "blue", f"properties {got[0].properties}")
    return "message id kept" if ids(got) == sent else "new message id"


def expect_refusal(action, *words):
    try:
        action()
    except Exception as error:
        text = error_text(error)
        check(any(word in text for word in words), f"unclear error: {text}")
        return text
    raise CaseFailed("nothing was refused")


def error_text(error):
    """The error with its causes, in one line."""
    parts = []
    while error is not None:
        part = " ".join(f"{type(error).__name__} {error}".split())
        code = getattr(error, "code", None)
        parts.append(f"{part} code {code}" if isinstance(code, int) else part)
        error = error.__cause__ or error.__context__
    return " <- ".join(parts)


class Ask:
    """Asks the driver to do something to the broker, once per case, and knows when that is
    done: "restart" kills it and starts it again, "reset" and "redrive" are its commands."""

    def __init__(self, event, **more):
        self.done = threading.Event()
        print(json.dumps({"event": event, **more}), flush=True)
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self):
        sys.stdin.readline()
        self.done.set()
