"""What every case promises, what it needs, and what is known of each client.

The programs in ../java, ../go, ../python, ../node and ../rust do the work of a case by
its name; nothing here talks to a broker.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    promise: str
    # Mostly waits for a time to pass, so that many run side by side.
    waits: bool = False
    # The topic.
    message_type: str = "NORMAL"
    queues: int = 4
    # The consumer group; 0 attempts for the broker's default. The second group of a case
    # is always an ordinary one.
    max_attempts: int = 0
    order: str = "concurrent"
    model: str = "clustering"
    # The consumer group is bound to the topic, for consumers of lite topics.
    is_lite: bool = False
    # Has a broker to itself, which the case asks the driver to kill and start again.
    own_broker: bool = False
    tls: bool = False


CASES = [
    Case("send", "a producer starts and sends; the receipt has a message id"),
    Case("properties", "tag, keys, properties and message id come back as sent"),
    Case("bodies", "bodies of 1 B, 1 KiB, 1 MiB and the largest the client takes are intact"),
    Case("ack", "simple consumer: acknowledged messages do not come again", waits=True),
    Case("redelivery",
         "not acknowledged: comes again after the invisible duration as delivery attempt 2",
         waits=True),
    Case("change-invisible",
         "changed invisible duration: comes that much later; the new receipt handle acknowledges",
         waits=True),
    Case("push", "push consumer: 200 messages, each exactly once"),
    Case("push-retry", "push consumer: a failed message comes again as delivery attempt 2",
         waits=True),
    Case("tag-filter", "the filter `a || b` delivers these tags only", waits=True),
    Case("point-to-point", "two consumers of one group share 200 messages, each handled once"),
    Case("publish-subscribe", "two groups: each gets all 200 messages"),
    Case("dead-letter",
         "after the last delivery attempt the message is in `%DLQ%group`, whole",
         waits=True, max_attempts=2),
    Case("push-dead-letter", "the same with a push consumer that always fails",
         waits=True, max_attempts=2),
    Case("unknown-topic", "sending to an unknown topic gives an error that says so", waits=True),
    Case("wrong-type", "a FIFO message to a NORMAL topic is refused"),
    Case("oversize", "a body of more than 4 MiB is refused"),
    Case("tls", "TLS on the same port as plaintext", tls=True),
    Case("restart",
         "kill -9 and start again: the clients recover, nothing acknowledged is lost or repeated",
         own_broker=True),
    Case("restart-push", "the same with a push consumer", own_broker=True),
    Case("long-poll", "a waiting receive has the message within 500 ms of the send"),
    Case("empty-receive", "a receive without messages returns after its polling time",
         waits=True),
    Case("shutdown", "producer and consumer shut down without an error"),
    Case("ack-twice", "acknowledging a message a second time is no error", waits=True),
    Case("batch-send",
         "five messages in one request: five receipts, and each message comes once"),
    Case("consumer-leaves",
         "one of two push consumers closes while messages flow: all are handled, at the latest "
         "5 s after the last was sent",
         waits=True),

    Case("fifo-order",
         "60 messages of 6 message groups, mixed: a simple consumer gets each group as sent",
         message_type="FIFO", order="fifo"),
    Case("fifo-order-push", "the same with a push consumer that starts after the last was sent",
         message_type="FIFO", order="fifo"),
    Case("fifo-one-in-flight",
         "while a message is not acknowledged no consumer gets its successors in the message "
         "group, but those of other message groups come",
         waits=True, message_type="FIFO", order="fifo"),
    Case("fifo-redelivery",
         "a FIFO message that was not acknowledged comes again as delivery attempt 2, before "
         "its successors",
         waits=True, message_type="FIFO", order="fifo"),
    Case("fifo-push-retry",
         "push consumer: a message that fails once is handled again before its successors",
         waits=True, message_type="FIFO", order="fifo"),
    Case("fifo-dead-letter",
         "after the last delivery attempt a FIFO message is in `%DLQ%group`, whole, and its "
         "successor comes",
         waits=True, max_attempts=2, message_type="FIFO", order="fifo"),
    Case("fifo-push-dead-letter", "the same with a push consumer that fails for this message",
         waits=True, max_attempts=2, message_type="FIFO", order="fifo"),
    Case("fifo-two-producers",
         "two producers in turn send 30 messages of one message group: they come in that order",
         message_type="FIFO", order="fifo"),
    Case("fifo-point-to-point",
         "two consumers of one group share 200 messages of 20 message groups, each group in "
         "the order sent over both",
         message_type="FIFO", order="fifo"),
    Case("fifo-throughput", "500 messages of 20 message groups: each once, each group in order",
         message_type="FIFO", order="fifo"),
    Case("fifo-many-groups",
         "300 messages of 150 message groups: each once, each group in order",
         message_type="FIFO", order="fifo"),

    Case("delay", "a message for 3 s later comes then: not before, at most 1 s after",
         waits=True, message_type="DELAY"),
    Case("delay-order",
         "messages for 6, 4 and 2 s later, sent in this order, come at 2, 4 and 6 s",
         waits=True, message_type="DELAY"),
    Case("delay-past", "a message for a time in the past comes within 1 s",
         message_type="DELAY"),
    Case("delay-too-far", "a message for 25 h later is refused", message_type="DELAY"),
    Case("recall", "a recalled message never comes, its neighbour does",
         waits=True, message_type="DELAY"),
    Case("recall-late", "recalling a message that was delivered gives an error",
         waits=True, message_type="DELAY"),
    Case("delay-restart",
         "a pending message outlives kill -9: it comes once, not before its time",
         waits=True, own_broker=True, message_type="DELAY"),

    Case("transaction-commit", "a committed message comes within 2 s, whole",
         message_type="TRANSACTION"),
    Case("transaction-invisible", "a half message does not come before it is committed",
         waits=True, message_type="TRANSACTION"),
    Case("transaction-rollback",
         "a message that was rolled back never comes, and nobody is asked about it",
         waits=True, message_type="TRANSACTION"),
    Case("transaction-check",
         "neither committed nor rolled back: after 6 s the producer is asked, its commit counts",
         waits=True, message_type="TRANSACTION"),
    Case("transaction-check-rollback",
         "the same, the producer answers with a rollback: the message never comes",
         waits=True, message_type="TRANSACTION"),
    Case("transaction-restart",
         "a half message outlives kill -9: a producer started after it is asked, its commit "
         "counts",
         waits=True, own_broker=True, message_type="TRANSACTION"),

    Case("priority",
         "of 12 messages sent before, those with the highest priority come first",
         waits=True, message_type="PRIORITY"),

    Case("lite-subscribe",
         "push consumer of lite topics: gets all messages of the two it subscribed to, each "
         "in order, and none of the third",
         waits=True, message_type="LITE", order="fifo", is_lite=True),
    Case("lite-unsubscribe",
         "the same, after it unsubscribed from one: gets messages of the other only",
         waits=True, message_type="LITE", order="fifo", is_lite=True),
    Case("lite-simple", "`lite-subscribe` with a simple consumer of lite topics",
         waits=True, message_type="LITE", order="fifo", is_lite=True),

    Case("sql-filter", "simple consumer: the filter `colour = 'blue' AND weight > 10` delivers "
         "these messages only", waits=True),
    Case("sql-filter-push", "the same with a push consumer", waits=True),
    Case("sql-null",
         "a message without the property does not match `colour <> 'red'`, and does match "
         "`colour IS NULL`",
         waits=True),
    Case("sql-broken", "a broken SQL filter gives an error that says so"),

    Case("broadcasting", "two push consumers of one broadcasting group: each gets all 50 messages",
         waits=True, model="broadcasting"),
    Case("broadcasting-simple", "the same with simple consumers",
         waits=True, model="broadcasting"),

    Case("dead-letter-origin",
         "a dead letter has message id, tag, keys, properties, birth and body of the message "
         "that it was, and is at delivery attempt 1",
         waits=True, max_attempts=2),
    Case("redrive",
         "`pinnace dead-letter redrive` brings a dead letter back to its group, as delivery "
         "attempt 1",
         waits=True, max_attempts=2),
    Case("reset-earliest",
         "`pinnace group reset --to earliest`: all 20 acknowledged messages come again"),
    Case("reset-timestamp",
         "`pinnace group reset --to TIMESTAMP`: the 10 messages sent after it come again, the "
         "10 before it do not",
         waits=True),
    Case("reset-latest",
         "`pinnace group reset --to latest`: 9 waiting messages never come, the next one does",
         waits=True),
]

MIB = 1024 * 1024
# Largest body to try, in bytes: Node.js and Rust refuse to receive gRPC messages above
# 4 MiB, and what the broker delivers is the body and its properties.
LARGE_BODY_BYTES = {
    "java": 4 * MIB,
    "go": 4 * MIB,
    "python": 4 * MIB,
    "node": 4 * MIB - 8192,
    "rust": 4 * MIB - 8192,
}

# (client, case) -> what is wrong in the client, for cases in which the broker is right.
# An entry whose case passes fails the run, so that this list cannot grow stale.
CLIENT_BUGS: dict[tuple[str, str], str] = {}
