"""A payment is announced if, and only if, it was made (transaction messages).

    python payments.py [host:port]

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
    TransactionChecker,
    TransactionResolution,
)

ENDPOINT = os.environ.get("PINNACE_ENDPOINT", "127.0.0.1:8081")
if len(sys.argv) > 1:
    ENDPOINT = sys.argv[1]
TOPIC = "payments"
GROUP = "ledger"
# The broker asks about a payment some 6 s after it was sent without a decision.
PATIENCE_SECONDS = 20
QUIET_SECONDS = 3


class Till(TransactionChecker):
    """Knows which cards were charged; a real shop keeps this in its database."""

    def __init__(self):
        self.charged = {}

    def check(self, message):
        """The broker asks what became of a payment that was neither committed nor rolled back."""
        (payment,) = message.keys
        if payment not in self.charged:
            print(f"Till: the broker asks about {payment}; still at it, ask again.")
            return TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED
        print(f"Till: the broker asks about {payment}; charged: {self.charged[payment]}.")
        if self.charged[payment]:
            return TransactionResolution.COMMIT
        return TransactionResolution.ROLLBACK


class Ledger(MessageListener):
    def __init__(self):
        self.booked = queue.Queue()

    def consume(self, message):
        (payment,) = message.keys
        self.booked.put((payment, message.body.decode()))
        return ConsumeResult.SUCCESS


def half_message(payment, amount):
    message = Message()
    message.topic = TOPIC
    message.keys = payment
    message.body = amount.encode()
    return message


def main():
    # The client insists on credentials; empty ones will do where the broker asks for none.
    configuration = ClientConfiguration(ENDPOINT, Credentials())
    ledger, till = Ledger(), Till()
    consumer = PushConsumer(configuration, GROUP, ledger, {TOPIC: FilterExpression()})
    consumer.startup()
    producer = Producer(configuration, [TOPIC], checker=till)
    producer.startup()

    day = uuid.uuid4().hex[:6]
    good, refused, forgotten = (f"payment-{day}-{number}" for number in (1, 2, 3))

    # First the half message, then the work it tells of, then the decision.
    transaction = producer.begin_transaction()
    producer.send(half_message(good, "20 EUR"), transaction)
    till.charged[good] = True
    transaction.commit()
    print(f"Till: {good} was charged and committed.")

    transaction = producer.begin_transaction()
    producer.send(half_message(refused, "5000 EUR"), transaction)
    till.charged[refused] = False
    transaction.rollback()
    print(f"Till: {refused} was refused by the bank and rolled back.")

    transaction = producer.begin_transaction()
    producer.send(half_message(forgotten, "7 EUR"), transaction)
    till.charged[forgotten] = True
    print(f"Till: {forgotten} was charged, and then we forgot to commit it.")

    booked, expected = set(), {good, forgotten}
    try:
        while True:
            patience = QUIET_SECONDS if expected <= booked else PATIENCE_SECONDS
            payment, amount = ledger.booked.get(timeout=patience)
            print(f"Ledger: booked {payment} of {amount}.")
            booked.add(payment)
    except queue.Empty:
        pass
    consumer.shutdown()
    producer.shutdown()
    if refused in booked:
        sys.exit("A payment that was rolled back reached the ledger.")
    if not expected <= booked:
        sys.exit(f"These payments never reached the ledger: {expected - booked}.")
    print("The ledger has the two payments that were made, and not the one that was refused.")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(f"No success with the broker at {ENDPOINT}: {error.__context__ or error}")
