// Cases of messages for later.
'use strict';

const {
  COLLECT_INVISIBLE_MS,
  check, receiveDuring, receiveUntil,
} = require('./clients');
const { ask, bodiesOf, checkBodies, expectRefusal } = require('./steps');

const LATE_MS = 1000;

const dueIn = milliseconds => new Date(Date.now() + milliseconds);

const sendLater = (clients, producer, body, due) =>
  producer.send(clients.message(body, { deliveryTimestamp: due }));

// Receives until count messages came, each with its arrival time; acknowledges none.
async function arrivalsUntil(consumer, count) {
  const arrivals = [];
  while (arrivals.length < count) {
    const views = await receiveUntil(consumer, 1, COLLECT_INVISIBLE_MS, false);
    const at = Date.now();
    for (const view of views) arrivals.push({ view, at });
  }
  return arrivals;
}

function checkInTime({ view, at }, due, lateMs = LATE_MS) {
  const late = at - due.getTime();
  check(late >= 0 && late <= lateMs, `${view.body} came ${late} ms after its time`);
  check(view.deliveryTimestamp?.getTime() === due.getTime(),
    `delivery timestamp ${view.deliveryTimestamp?.getTime()} instead of ${due.getTime()}`);
  return `${late} ms after its time`;
}

async function delay(clients) {
  const [ producer, consumer ] = [ await clients.producer(), await clients.simple() ];
  const due = dueIn(3000);
  await sendLater(clients, producer, 'later', due);
  const [ arrival ] = await arrivalsUntil(consumer, 1);
  return checkInTime(arrival, due);
}

async function delayOrder(clients) {
  const [ producer, consumer ] = [ await clients.producer(), await clients.simple() ];
  const due = new Map();
  for (const seconds of [ 6, 4, 2 ]) {
    due.set(String(seconds), dueIn(seconds * 1000));
    await sendLater(clients, producer, String(seconds), due.get(String(seconds)));
  }
  const arrivals = await arrivalsUntil(consumer, 3);
  checkBodies(arrivals.map(arrival => arrival.view), [ '2', '4', '6' ]);
  for (const arrival of arrivals) checkInTime(arrival, due.get(arrival.view.body.toString()));
}

async function delayPast(clients) {
  const [ producer, consumer ] = [ await clients.producer(), await clients.simple() ];
  await sendLater(clients, producer, 'late', dueIn(-60_000));
  const sent = Date.now();
  const [{ at }] = await arrivalsUntil(consumer, 1);
  check(at - sent <= 1000, `came after ${at - sent} ms`);
}

async function delayTooFar(clients) {
  const producer = await clients.producer();
  return expectRefusal(() => sendLater(clients, producer, 'too far', dueIn(25 * 3_600_000)),
    'ILLEGAL_DELIVERY_TIME', '40012');
}

async function recall(clients) {
  const [ producer, consumer ] = [ await clients.producer(), await clients.simple() ];
  const due = dueIn(3000);
  const receipt = await sendLater(clients, producer, 'recalled', due);
  await sendLater(clients, producer, 'neighbour', due);
  const { messageId } = await producer.recallMessage(clients.topic, receipt.recallHandle);
  check(messageId === receipt.messageId, `message id ${messageId} was recalled`);
  const came = await receiveUntil(consumer, 1);
  came.push(...(await receiveDuring(consumer, 2000)).map(arrival => arrival.view));
  checkBodies(came, [ 'neighbour' ]);
}

async function recallLate(clients) {
  const producer = await clients.producer();
  const receipt = await sendLater(clients, producer, 'delivered', dueIn(2000));
  await receiveUntil(await clients.simple(), 1);
  return expectRefusal(() => producer.recallMessage(clients.topic, receipt.recallHandle),
    'BAD_REQUEST', '40000', 'MESSAGE_NOT_FOUND', '40401');
}

async function delayRestart(clients) {
  const due = dueIn(10_000);
  await sendLater(clients, await clients.producer(), 'pending', due);
  await ask('restart');
  const lateMs = LATE_MS + Math.max(0, Date.now() - due.getTime());
  const consumer = await clients.simple();
  const [ arrival ] = await arrivalsUntil(consumer, 1);
  const detail = checkInTime(arrival, due, lateMs);
  const again = (await receiveDuring(consumer, 1000)).map(one => one.view);
  check(again.length === 0, `${bodiesOf(again)} came again`);
  return detail;
}

module.exports = {
  delay, 'delay-order': delayOrder, 'delay-past': delayPast, 'delay-too-far': delayTooFar,
  recall, 'recall-late': recallLate, 'delay-restart': delayRestart,
};
