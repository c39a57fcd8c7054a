// Cases of messages in order per message group.
'use strict';

const {
  COLLECT_INVISIBLE_MS, COLLECT_LIMIT_MS, INVISIBLE_MS,
  check, receiveDuring, receiveUntil, waitFor,
} = require('./clients');
const {
  EARLY_MS,
  bodiesOf, checkBodies, checkDeadLetter, checkInOrder, seconds, sendInGroups, sendPoison,
} = require('./steps');

const receiveOne = async (consumer, invisibleMs) =>
  (await receiveUntil(consumer, 1, invisibleMs, false, 1))[0];

async function fifoOrder(clients) {
  await sendInGroups(clients, 6, 10);
  checkInOrder(await receiveUntil(await clients.simple(), 60), 6, 10);
}

// Says when the last one came.
async function checkHeardInOrder(heard, groups, each) {
  const total = groups * each;
  await waitFor(COLLECT_LIMIT_MS, () => heard.length >= total);
  const at = Date.now();
  check(!await waitFor(1000, () => heard.length > total), 'a message came twice');
  checkInOrder(heard, groups, each);
  return at;
}

async function fifoOrderPush(clients) {
  await sendInGroups(clients, 6, 10);
  await checkHeardInOrder(await clients.push(), 6, 10);
}

async function pushWhileSending(clients, groups, each) {
  const heard = await clients.push();
  const began = Date.now();
  await sendInGroups(clients, groups, each);
  const took = await checkHeardInOrder(heard, groups, each) - began;
  return `${groups * each} messages in ${seconds(took)}`;
}

const fifoThroughput = clients => pushWhileSending(clients, 20, 25);
const fifoManyGroups = clients => pushWhileSending(clients, 150, 2);

// Messages "a-0" and the like; the letter is the message group.
async function sendNamed(clients, ...names) {
  const producer = await clients.producer();
  for (const name of names) {
    await producer.send(clients.message(name, { messageGroup: name[0] }));
  }
}

async function fifoOneInFlight(clients) {
  await sendNamed(clients, 'a-0', 'a-1', 'b-0', 'b-1');
  const [ first, second ] = [ await clients.simple(), await clients.simple() ];
  const held = [
    await receiveOne(first, COLLECT_INVISIBLE_MS), await receiveOne(first, COLLECT_INVISIBLE_MS),
  ];
  held.sort((one, other) => (one.messageGroup < other.messageGroup ? -1 : 1));
  checkBodies(held, [ 'a-0', 'b-0' ]);
  const early = (await receiveDuring(second, 1000)).map(arrival => arrival.view);
  check(early.length === 0, `${bodiesOf(early)} came too early`);
  for (const view of held) {
    await first.ack(view);
    checkBodies(await receiveUntil(second, 1), [ `${view.messageGroup}-1` ]);
  }
}

async function fifoRedelivery(clients) {
  await sendNamed(clients, 'a-0', 'a-1', 'a-2');
  const consumer = await clients.simple();
  await receiveOne(consumer, INVISIBLE_MS);
  const received = Date.now();
  const again = await receiveUntil(consumer, 1, COLLECT_INVISIBLE_MS, true, 1);
  const waited = Date.now() - received;
  check(waited >= INVISIBLE_MS - EARLY_MS, `came again after ${seconds(waited)}`);
  check(again[0].deliveryAttempt === 2, `delivery attempt ${again[0].deliveryAttempt}`);
  checkBodies([ ...again, ...await receiveUntil(consumer, 2) ], [ 'a-0', 'a-1', 'a-2' ]);
  return `came again after ${seconds(waited)}`;
}

async function fifoPushRetry(clients) {
  await sendNamed(clients, 'a-0', 'b-0', 'a-1', 'b-1', 'a-2', 'b-2');
  let failed = false;
  const heard = await clients.push(view => {
    const fails = !failed && view.body.toString() === 'a-1';
    failed ||= fails;
    return !fails;
  });
  await waitFor(COLLECT_LIMIT_MS, () => heard.length >= 7);
  check(!await waitFor(1000, () => heard.length > 7), 'a message came too often');
  const of = group => heard.filter(view => view.messageGroup === group);
  checkBodies(of('a'), [ 'a-0', 'a-1', 'a-1', 'a-2' ]);
  checkBodies(of('b'), [ 'b-0', 'b-1', 'b-2' ]);
}

async function fifoDeadLetter(clients) {
  const sent = await sendPoison(clients, { messageGroup: 'a' });
  await sendNamed(clients, 'a-1');
  const consumer = await clients.simple();
  for (const attempt of [ 1, 2 ]) {
    const view = await receiveOne(consumer, INVISIBLE_MS);
    checkBodies([ view ], [ 'poison' ]);
    check(view.deliveryAttempt === attempt, `delivery attempt ${view.deliveryAttempt}`);
    await consumer.changeInvisibleDuration(view, 1000);
  }
  checkBodies(await receiveUntil(consumer, 1), [ 'a-1' ]);
  return checkDeadLetter(clients, sent);
}

async function fifoPushDeadLetter(clients) {
  const sent = await sendPoison(clients, { messageGroup: 'a' });
  await sendNamed(clients, 'a-1');
  const heard = await clients.push(view => view.body.toString() !== 'poison');
  await waitFor(COLLECT_LIMIT_MS, () => heard.length >= 3);
  const detail = await checkDeadLetter(clients, sent);
  checkBodies(heard, [ 'poison', 'poison', 'a-1' ]);
  return detail;
}

async function fifoTwoProducers(clients) {
  const producers = [ await clients.producer(), await clients.producer() ];
  for (let n = 0; n < 30; n++) {
    await producers[n % 2].send(clients.message(String(n), { messageGroup: 'shared' }));
  }
  checkInOrder(await receiveUntil(await clients.simple(), 30), 1, 30);
}

async function fifoPointToPoint(clients) {
  const both = [];
  const counts = [ 0, 0 ];
  for (const consumer of [ 0, 1 ]) {
    await clients.push(view => {
      both.push(view);
      counts[consumer]++;
      return true;
    });
  }
  await sendInGroups(clients, 20, 10);
  await waitFor(COLLECT_LIMIT_MS, () => both.length >= 200);
  check(!await waitFor(1000, () => both.length > 200), 'a message came twice');
  checkInOrder(both, 20, 10);
  check(counts[0] && counts[1], 'one consumer got everything');
  return `${counts[0]} and ${counts[1]}`;
}

module.exports = {
  'fifo-order': fifoOrder, 'fifo-order-push': fifoOrderPush,
  'fifo-one-in-flight': fifoOneInFlight, 'fifo-redelivery': fifoRedelivery,
  'fifo-push-retry': fifoPushRetry, 'fifo-dead-letter': fifoDeadLetter,
  'fifo-push-dead-letter': fifoPushDeadLetter, 'fifo-two-producers': fifoTwoProducers,
  'fifo-point-to-point': fifoPointToPoint, 'fifo-throughput': fifoThroughput,
  'fifo-many-groups': fifoManyGroups,
};
