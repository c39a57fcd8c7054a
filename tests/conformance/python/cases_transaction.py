"""Cases of messages that become visible with a transaction."""

import time

from clients import Checker, TransactionResolution, check, receive_during, receive_until
from steps import Ask, bodies_of, ids

CHECK_AFTER_SECONDS = (5.5, 12)
CHECK_LIMIT_SECONDS = 30


def begin(clients, checker):
    """A half message of a new producer; its transaction, message id and time."""
    producer = clients.producer(checker=checker)
    transaction = producer.begin_transaction()
    message = clients.message("half", tag="tag-a")
    message.add_property("colour", "blue")
    receipt = producer.send(message, transaction)
    return transaction, receipt.message_id, time.monotonic()


def check_whole(message, sent):
    check(message.message_id == sent, f"message id {message.message_id}")
    check(message.body == b"half", f"body {message.body!r}")
    check(message.tag == "tag-a", f"tag {message.tag}")
    check(message.properties == {"colour": "blue"}, f"properties {message.properties}")


def check_asked(checker, sent):
    """The producer was asked about its message; when, in seconds of the monotonic clock."""
    check(checker.wait(CHECK_LIMIT_SECONDS), f"nobody was asked for {CHECK_LIMIT_SECONDS} s")
    message, asked = checker.asked[0]
    check_whole(message, sent)
    return asked


def check_asked_in_time(checker, sent, began):
    waited = check_asked(checker, sent) - began
    least, most = CHECK_AFTER_SECONDS
    check(least <= waited <= most, f"asked after {waited:.1f} s")
    return f"asked after {waited:.1f} s"


def transaction_commit(clients):
    transaction, sent, _ = begin(clients, Checker(TransactionResolution.COMMIT))
    consumer = clients.simple()
    transaction.commit()
    committed = time.monotonic()
    message = receive_until(consumer, 1)[0]
    waited = time.monotonic() - committed
    check_whole(message, sent)
    check(waited <= 2, f"came after {waited:.1f} s")


def transaction_invisible(clients):
    unknown = TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED
    transaction, sent, _ = begin(clients, Checker(unknown))
    consumer = clients.simple()
    check(not receive_during(consumer, 4), "came before the commit")
    transaction.commit()
    check(ids(receive_until(consumer, 1)) == [sent], "another message came")


def transaction_rollback(clients):
    checker = Checker(TransactionResolution.COMMIT)
    transaction, _, _ = begin(clients, checker)
    transaction.rollback()
    check(not receive_during(clients.simple(), 9), "came in spite of the rollback")
    check(not checker.asked, "asked about a finished transaction")


def transaction_check(clients):
    checker = Checker(TransactionResolution.COMMIT)
    _, sent, began = begin(clients, checker)
    check_whole(receive_until(clients.simple(), 1)[0], sent)
    return check_asked_in_time(checker, sent, began)


def transaction_check_rollback(clients):
    checker = Checker(TransactionResolution.ROLLBACK)
    _, sent, began = begin(clients, checker)
    detail = check_asked_in_time(checker, sent, began)
    check(not receive_during(clients.simple(), 3), "came in spite of the rollback")
    return detail


def transaction_restart(clients):
    checker = Checker(TransactionResolution.COMMIT)
    _, sent, _ = begin(clients, checker)
    check(Ask("restart").done.wait(30), "the broker did not come back")
    clients.producer(checker=checker)
    consumer = clients.simple()
    check_asked(checker, sent)
    came = receive_until(consumer, 1)
    came += [message for message, _ in receive_during(consumer, 1)]
    check(bodies_of(came) == ["half"], f"{bodies_of(came)} came")
    check_whole(came[0], sent)


CASES = (
    transaction_commit, transaction_invisible, transaction_rollback, transaction_check,
    transaction_check_rollback, transaction_restart,
)
