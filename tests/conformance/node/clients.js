// The official Node.js client's producers and consumers for one case, and what the cases
// need of them. Durations of this client are milliseconds.
'use strict';

const {
  ConsumeResult, FilterExpression, LitePushConsumerBuilder, Producer, PushConsumer, SimpleConsumer,
} = require('rocketmq-client-nodejs');
// Not exported by the client, and needed for what it does export.
const {
  FilterType, TransactionResolution,
} = require('rocketmq-client-nodejs/proto/apache/rocketmq/v2/definition_pb');
const { setTimeout: pause } = require('node:timers/promises');

const AWAIT_MS = 5_000;
const INVISIBLE_MS = 10_000;
const COLLECT_LIMIT_MS = 30_000;
// Longer than any case, so that nothing collected comes back by itself.
const COLLECT_INVISIBLE_MS = 120_000;

function check(condition, text) {
  if (!condition) throw new Error(text);
}

// Waits until the condition holds and says whether it did.
async function waitFor(limitMs, condition) {
  const ends = Date.now() + limitMs;
  while (!condition()) {
    if (Date.now() > ends) return false;
    await pause(10);
  }
  return true;
}

const sql = text => new FilterExpression(text, FilterType.SQL);

// Tags as text, or a filter as it is.
const filterOf = expression =>
  (typeof expression === 'string' ? new FilterExpression(expression) : expression);

// A listener that records what it sees in `heard`, and answers what the case decides.
const listener = (heard, decide) => ({
  async consume(view) {
    heard.push(view);
    return decide(view) ? ConsumeResult.SUCCESS : ConsumeResult.FAILURE;
  },
});

class Clients {
  constructor(options) {
    this.topic = options.topic;
    this.group = options.group;
    this.secondGroup = options['second-group'];
    this.unknownTopic = options['unknown-topic'];
    this.largeBodyBytes = Number(options['large-body-bytes']);
    this.connection = { endpoints: options.endpoint, namespace: '', sslEnabled: options.tls };
  }

  async producer(topic = this.topic, checker = undefined) {
    const producer = new Producer({ ...this.connection, topics: [ topic ], checker });
    await producer.startup();
    return producer;
  }

  async simple({ group = this.group, topic = this.topic, expression = '*', awaitMs = AWAIT_MS } = {}) {
    const consumer = new SimpleConsumer({
      ...this.connection,
      consumerGroup: group,
      subscriptions: new Map([[ topic, filterOf(expression) ]]),
      awaitDuration: awaitMs,
    });
    await consumer.startup();
    return consumer;
  }

  // A started push consumer and the list of its deliveries, in the order the listener saw them.
  async startPush(decide = () => true, group = this.group, expression = '*') {
    const heard = [];
    const consumer = new PushConsumer({
      ...this.connection,
      consumerGroup: group,
      subscriptions: new Map([[ this.topic, filterOf(expression) ]]),
      messageListener: listener(heard, decide),
    });
    await consumer.startup();
    return { consumer, heard };
  }

  async push(...options) {
    return (await this.startPush(...options)).heard;
  }

  // A push consumer of lite topics, of none yet, and its deliveries.
  async startLitePush() {
    const heard = [];
    const consumer = await new LitePushConsumerBuilder()
      .setClientConfiguration(this.connection)
      .setConsumerGroup(this.group)
      .bindTopic(this.topic)
      .setMessageListener(listener(heard, () => true))
      .build();
    return { consumer, heard };
  }

  message(body, more = {}) {
    return { topic: this.topic, body: Buffer.from(body), ...more };
  }

  async sendAll(producer, count) {
    const ids = [];
    for (let n = 0; n < count; n++) {
      ids.push((await producer.send(this.message(`message-${n}`))).messageId);
    }
    return ids;
  }
}

// Receives until count messages came, and acknowledges them when asked.
async function receiveUntil(consumer, count, invisibleMs = COLLECT_INVISIBLE_MS,
  acknowledge = true, batch = 16) {
  const views = [];
  const ends = Date.now() + COLLECT_LIMIT_MS;
  while (views.length < count && Date.now() < ends) {
    for (const view of await consumer.receive(batch, invisibleMs)) {
      views.push(view);
      if (acknowledge) await consumer.ack(view);
    }
  }
  check(views.length >= count,
    `${views.length} of ${count} messages came within ${COLLECT_LIMIT_MS / 1000} s`);
  return views;
}

// Everything that comes within the given time, each with its arrival time.
async function receiveDuring(consumer, limitMs) {
  const arrivals = [];
  const ends = Date.now() + limitMs;
  while (Date.now() < ends) {
    for (const view of await consumer.receive(16, COLLECT_INVISIBLE_MS)) {
      arrivals.push({ view, at: Date.now() });
    }
  }
  return arrivals;
}

module.exports = {
  AWAIT_MS, INVISIBLE_MS, COLLECT_LIMIT_MS, COLLECT_INVISIBLE_MS,
  Clients, TransactionResolution, check, pause, receiveDuring, receiveUntil, sql, waitFor,
};
