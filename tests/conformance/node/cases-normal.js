// Cases of ordinary messages, of their delivery, and of the broker's restart.
'use strict';

const { isDeepStrictEqual } = require('node:util');
const {
  COLLECT_LIMIT_MS, INVISIBLE_MS,
  check, pause, receiveDuring, receiveUntil, waitFor,
} = require('./clients');
const {
  EARLY_MS,
  ask, checkDeadLetter, checkEachOnce, expectRefusal, ids, seconds, sendPoison,
} = require('./steps');

const PUSH_MESSAGES = 200;

async function send(clients) {
  const receipt = await (await clients.producer()).send(clients.message('hello'));
  check(receipt.messageId, 'the receipt has no message id');
  return `message id ${receipt.messageId}`;
}

async function properties(clients) {
  const wanted = new Map([[ 'colour', 'blue' ], [ 'name', 'gr\u00fcn' ]]);
  const receipt = await (await clients.producer()).send(clients.message('hello', {
    tag: 'tag-a', keys: [ 'key-1', 'key-2' ], properties: wanted,
  }));
  const [ got ] = await receiveUntil(await clients.simple(), 1);
  check(got.messageId === receipt.messageId, `message id ${got.messageId}`);
  check(got.topic === clients.topic, `topic ${got.topic}`);
  check(got.body.toString() === 'hello', `body ${got.body}`);
  check(got.tag === 'tag-a', `tag ${got.tag}`);
  check(isDeepStrictEqual([ ...got.keys ].sort(), [ 'key-1', 'key-2' ]), `keys ${got.keys}`);
  check(isDeepStrictEqual(got.properties, wanted), `properties ${[ ...got.properties ]}`);
  check(got.deliveryAttempt === 1, `delivery attempt ${got.deliveryAttempt}`);
  check(!got.corrupted, 'the client calls the body corrupted');
}

function pattern(size) {
  return Buffer.from(Uint8Array.from({ length: size }, (_, n) => (n % 251 * 31 + size) % 251));
}

async function bodies(clients) {
  const sizes = [ 1, 1024, 1024 * 1024, clients.largeBodyBytes ];
  const producer = await clients.producer();
  for (const size of sizes) await producer.send(clients.message(pattern(size)));
  const got = await receiveUntil(await clients.simple(), sizes.length);
  for (const { body, corrupted } of got) {
    check(body.equals(pattern(body.length)), `${body.length} bytes changed`);
    check(!corrupted, `the client calls ${body.length} bytes corrupted`);
  }
  const lengths = got.map(view => view.body.length).sort((a, b) => a - b);
  check(isDeepStrictEqual(lengths, sizes), `sizes ${lengths}`);
  return `up to ${clients.largeBodyBytes} bytes`;
}

async function ack(clients) {
  await clients.sendAll(await clients.producer(), 3);
  const consumer = await clients.simple();
  await receiveUntil(consumer, 3, INVISIBLE_MS);
  const late = await receiveDuring(consumer, INVISIBLE_MS + 3000);
  check(late.length === 0, `${late.length} acknowledged messages came again`);
}

async function redelivery(clients) {
  const sent = await clients.sendAll(await clients.producer(), 1);
  const consumer = await clients.simple();
  const [ first ] = await receiveUntil(consumer, 1, INVISIBLE_MS, false);
  const received = Date.now();
  check(first.deliveryAttempt === 1, `first delivery attempt ${first.deliveryAttempt}`);
  const [ again ] = await receiveUntil(consumer, 1);
  const waited = Date.now() - received;
  check(again.messageId === sent[0], 'another message came');
  check(again.deliveryAttempt === 2, `second delivery attempt ${again.deliveryAttempt}`);
  check(waited >= INVISIBLE_MS - EARLY_MS && waited <= INVISIBLE_MS + 6000,
    `came again after ${seconds(waited)}`);
  return `came again after ${seconds(waited)}`;
}

async function changeInvisible(clients) {
  await clients.sendAll(await clients.producer(), 2);
  const consumer = await clients.simple();
  const [ later, done ] = await receiveUntil(consumer, 2, INVISIBLE_MS, false);
  const changed = Date.now();
  await consumer.changeInvisibleDuration(later, INVISIBLE_MS + 4000);
  await consumer.changeInvisibleDuration(done, INVISIBLE_MS + 1000);
  await consumer.ack(done);
  const arrivals = await receiveDuring(consumer, INVISIBLE_MS + 6000);
  check(arrivals.length === 1,
    `${arrivals.length} messages came instead of the one not acknowledged`);
  const [{ view, at }] = arrivals;
  check(view.messageId === later.messageId, 'the acknowledged message came again');
  check(at - changed >= INVISIBLE_MS + 4000 - EARLY_MS, `came again after ${seconds(at - changed)}`);
  check(view.deliveryAttempt === 2, `delivery attempt ${view.deliveryAttempt}`);
  await consumer.ack(view);
  return `came again after ${seconds(at - changed)}`;
}

async function push(clients) {
  const heard = await clients.push();
  const sent = await clients.sendAll(await clients.producer(), PUSH_MESSAGES);
  await waitFor(COLLECT_LIMIT_MS, () => heard.length >= PUSH_MESSAGES);
  check(!await waitFor(3000, () => heard.length > PUSH_MESSAGES), 'a message came twice');
  checkEachOnce(ids(heard), sent);
}

function checkTwoAttempts(heard, sent) {
  checkEachOnce(ids(heard), [ sent, sent ]);
  const attempts = heard.map(view => view.deliveryAttempt);
  check(isDeepStrictEqual(attempts, [ 1, 2 ]), `delivery attempts ${attempts}`);
}

async function pushRetry(clients) {
  const heard = await clients.push(view => view.deliveryAttempt > 1);
  const [ sent ] = await clients.sendAll(await clients.producer(), 1);
  await waitFor(40_000, () => heard.length >= 2);
  check(!await waitFor(2000, () => heard.length > 2), 'came a third time');
  checkTwoAttempts(heard, sent);
}

async function tagFilter(clients) {
  const producer = await clients.producer();
  for (let n = 0; n < 5; n++) {
    for (const tag of [ 'a', 'b', 'c', undefined ]) {
      await producer.send(clients.message(`tagged ${tag}`, tag ? { tag } : {}));
    }
  }
  const consumer = await clients.simple({ expression: 'a || b' });
  const got = await receiveUntil(consumer, 10);
  got.push(...(await receiveDuring(consumer, 2000)).map(arrival => arrival.view));
  const tags = got.map(view => view.tag || 'none').sort().join('');
  check(tags === 'aaaaabbbbb', `tags ${tags}`);
}

async function pointToPoint(clients) {
  const [ first, second ] = [ await clients.push(), await clients.push() ];
  const producer = await clients.producer();
  const sent = await clients.sendAll(producer, PUSH_MESSAGES);
  // A consumer asks some time after its start; by then the other one may have had everything.
  const until = Date.now() + COLLECT_LIMIT_MS;
  while (!(first.length && second.length) && Date.now() < until) {
    sent.push(...await clients.sendAll(producer, 1));
  }
  await waitFor(COLLECT_LIMIT_MS, () => first.length + second.length >= sent.length);
  await waitFor(3000, () => first.length + second.length > sent.length);
  checkEachOnce(ids([ ...first, ...second ]), sent);
  check(first.length && second.length, 'one consumer got everything');
  return `${first.length} and ${second.length}`;
}

async function publishSubscribe(clients) {
  const heard = [ await clients.push(), await clients.push(() => true, clients.secondGroup) ];
  const sent = await clients.sendAll(await clients.producer(), PUSH_MESSAGES);
  for (const deliveries of heard) {
    await waitFor(COLLECT_LIMIT_MS, () => deliveries.length >= PUSH_MESSAGES);
    checkEachOnce(ids(deliveries), sent);
  }
}

async function deadLetter(clients) {
  const sent = await sendPoison(clients);
  const consumer = await clients.simple();
  for (const attempt of [ 1, 2 ]) {
    const [ view ] = await receiveUntil(consumer, 1, INVISIBLE_MS, false);
    check(view.deliveryAttempt === attempt, `delivery attempt ${view.deliveryAttempt}`);
    await consumer.changeInvisibleDuration(view, 1000);
  }
  check((await receiveDuring(consumer, 2000)).length === 0, 'came a third time');
  return checkDeadLetter(clients, sent);
}

async function pushDeadLetter(clients) {
  const heard = await clients.push(() => false);
  const sent = await sendPoison(clients);
  await waitFor(40_000, () => heard.length >= 2);
  const detail = await checkDeadLetter(clients, sent);
  checkTwoAttempts(heard, sent);
  return detail;
}

function unknownTopic(clients) {
  const topic = clients.unknownTopic;
  return expectRefusal(async () => {
    const producer = await clients.producer(topic);
    await producer.send(clients.message('nowhere', { topic }));
  }, 'TOPIC_NOT_FOUND', '40402', topic);
}

async function wrongType(clients) {
  const producer = await clients.producer();
  return expectRefusal(() => producer.send(clients.message('ordered', { messageGroup: 'order-1' })),
    'type', 'TYPE', '40014');
}

async function oversize(clients) {
  const producer = await clients.producer();
  const body = Buffer.alloc(4 * 1024 * 1024 + 1);
  return expectRefusal(() => producer.send(clients.message(body)),
    'size', 'large', 'LARGE', '4194304', 'exceed');
}

async function tls(clients) {
  const sent = await clients.sendAll(await clients.producer(), 3);
  checkEachOnce(ids(await receiveUntil(await clients.simple(), 3)), sent);
}

// Sends all the time while the driver kills and restarts the broker; the ids answered.
async function sendThroughRestart(clients, producer) {
  let done = false;
  ask('restart').then(() => { done = true; });
  const sent = [];
  let failures = 0;
  let after = 0;
  const ends = Date.now() + 45_000;
  while (after < 20) {
    check(Date.now() < ends, `the producer did not recover (${failures} errors)`);
    const restarted = done;
    try {
      sent.push((await producer.send(clients.message('through the restart'))).messageId);
      after += restarted ? 1 : 0;
    } catch {
      failures++;
    }
    await pause(50);
  }
  return { sent, detail: `${sent.length} sent meanwhile, ${failures} sends failed` };
}

async function restart(clients) {
  const producer = await clients.producer();
  const consumer = await clients.simple();
  const before = await clients.sendAll(producer, 20);
  const done = new Set(ids(await receiveUntil(consumer, 10, INVISIBLE_MS)));
  const { sent, detail } = await sendThroughRestart(clients, producer);
  const expected = new Set([ ...before, ...sent ].filter(id => !done.has(id)));
  const ends = Date.now() + COLLECT_LIMIT_MS;
  while (expected.size && Date.now() < ends) {
    const views = await consumer.receive(16, INVISIBLE_MS).catch(() => pause(100, []));
    for (const view of views) {
      check(!done.has(view.messageId), 'an acknowledged message came again');
      expected.delete(view.messageId);
      await consumer.ack(view);
    }
  }
  check(!expected.size, `${expected.size} of ${before.length + sent.length} messages lost`);
  return detail;
}

async function restartPush(clients) {
  const producer = await clients.producer();
  const heard = await clients.push();
  const before = await clients.sendAll(producer, 20);
  check(await waitFor(COLLECT_LIMIT_MS, () => heard.length >= 20), 'no delivery before the restart');
  const { sent, detail } = await sendThroughRestart(clients, producer);
  const missing = () => {
    const got = new Set(ids(heard));
    return [ ...before, ...sent ].filter(id => !got.has(id)).length;
  };
  await waitFor(COLLECT_LIMIT_MS, () => missing() === 0);
  check(missing() === 0, `${missing()} of ${before.length + sent.length} messages did not come`);
  return detail;
}

async function longPoll(clients) {
  const producer = await clients.producer();
  const consumer = await clients.simple({ awaitMs: 10_000 });
  const delaysMs = [];
  for (let n = 0; n < 5; n++) {
    const waiting = receiveUntil(consumer, 1).then(() => Date.now());
    await pause(500);
    const began = Date.now();
    await clients.sendAll(producer, 1);
    delaysMs.push(await waiting - began);
  }
  delaysMs.sort((a, b) => a - b);
  check(delaysMs[2] <= 500 && delaysMs[4] <= 2000, `delays ${delaysMs} ms`);
  return `median ${delaysMs[2]} ms`;
}

async function emptyReceive(clients) {
  const consumer = await clients.simple({ awaitMs: 6000 });
  const began = Date.now();
  check((await consumer.receive(16, INVISIBLE_MS)).length === 0, 'a message came from nowhere');
  const waited = Date.now() - began;
  check(waited >= 4800 && waited <= 9500, `returned after ${seconds(waited)}`);
  return `returned after ${seconds(waited)}`;
}

async function shutdown(clients) {
  const producer = await clients.producer();
  const consumer = await clients.simple();
  await clients.sendAll(producer, 1);
  await receiveUntil(consumer, 1);
  const began = Date.now();
  await consumer.shutdown();
  await producer.shutdown();
  check(Date.now() - began <= 10_000, `took ${seconds(Date.now() - began)}`);
  return `took ${seconds(Date.now() - began)}`;
}

async function ackTwice(clients) {
  await clients.sendAll(await clients.producer(), 1);
  const consumer = await clients.simple();
  const [ view ] = await receiveUntil(consumer, 1);
  await consumer.ack(view);
  check((await receiveDuring(consumer, 1000)).length === 0, 'came again');
}

async function consumerLeaves(clients) {
  const leaving = await clients.startPush();
  const staying = await clients.startPush();
  const producer = await clients.producer();
  const handled = () => new Set(ids([ ...leaving.heard, ...staying.heard ]));
  const sent = await clients.sendAll(producer, 20);
  await waitFor(COLLECT_LIMIT_MS, () => handled().size >= sent.length);
  let closed = false;
  leaving.consumer.shutdown().then(() => { closed = true; });
  while (!closed) {
    sent.push(...await clients.sendAll(producer, 1));
    await pause(50);
  }
  sent.push(...await clients.sendAll(producer, 20));
  await waitFor(5000, () => handled().size >= sent.length);
  const missing = sent.filter(id => !handled().has(id));
  check(!missing.length, `${missing.length} of ${sent.length} messages not handled after 5 s`);
  return `${leaving.heard.length} and ${staying.heard.length}`;
}

module.exports = {
  send, properties, bodies, ack, redelivery, 'change-invisible': changeInvisible, push,
  'push-retry': pushRetry, 'tag-filter': tagFilter, 'point-to-point': pointToPoint,
  'publish-subscribe': publishSubscribe, 'dead-letter': deadLetter,
  'push-dead-letter': pushDeadLetter, 'unknown-topic': unknownTopic, 'wrong-type': wrongType,
  oversize, tls, restart, 'restart-push': restartPush, 'long-poll': longPoll,
  'empty-receive': emptyReceive, shutdown, 'ack-twice': ackTwice,
  'consumer-leaves': consumerLeaves,
};
