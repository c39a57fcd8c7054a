"""Messages for later, and one of them taken back before its time (delay and recall).

    python reminders.py [host:port]

Sender and receiver stand in one file here; in real life they are two programs.
"""

import os
import queue
import sys
import time

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
TOPIC = "reminders"
GROUP = "calendar"
PATIENCE_SECONDS = 20


class Calendar(MessageListener):
    def __init__(self):
        self.rung = queue.Queue()

    def consume(self, message):
        self.rung.put((message, time.time()))
        return ConsumeResult.SUCCESS


def main():
    # The client insists on credentials; empty ones will do where the broker asks for none.
    configuration = ClientConfiguration(ENDPOINT, Credentials())
    calendar = Calendar()
    consumer = PushConsumer(configuration, GROUP, calendar, {TOPIC: FilterExpression()})
    consumer.startup()
    producer = Producer(configuration, [TOPIC])
    producer.startup()

    receipts = {}
    for text, seconds in (("dentist", 8), ("train", 6), ("tea", 4)):
        message = Message()
        message.topic = TOPIC
        message.body = text.encode()
        # When to deliver it, in whole seconds since 1970: a moment, not a delay.
        message.delivery_timestamp = int(time.time()) + seconds
        receipts[text] = producer.send(message)
        print(f"Sent the reminder '{text}' for {seconds} s from now.")
    producer.recall_message(TOPIC, receipts["train"].recall_handle)
    print("Took the reminder 'train' back: we go by car.")

    sent = {receipt.message_id for receipt in receipts.values()}
    rung = []
    while "dentist" not in rung:  # The last one; 'train' would come before it.
        try:
            message, moment = calendar.rung.get(timeout=PATIENCE_SECONDS)
        except queue.Empty:
            sys.exit(f"Not every reminder came, only these: {rung}.")
        if message.message_id not in sent:
            continue  # Left from an earlier day.
        # Set in seconds, but read in milliseconds.
        late_ms = round(moment * 1000) - message.delivery_timestamp
        print(f"Calendar: '{message.body.decode()}', {late_ms} ms after its time.")
        if late_ms < 0:
            sys.exit("A reminder came before its time.")
        rung.append(message.body.decode())
    consumer.shutdown()
    producer.shutdown()
    if rung != ["tea", "dentist"]:
        sys.exit(f"Expected 'tea' and 'dentist', but these came: {rung}.")
    print("The two reminders came at their time, and the one that was taken back did not.")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:
        sys.exit(f"No success with the broker at {ENDPOINT}: {error.__context__ or error}")
