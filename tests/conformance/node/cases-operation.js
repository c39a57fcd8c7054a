// Cases of what an operator does: dead letters brought back, progress set anew.
'use strict';

const { isDeepStrictEqual } = require('node:util');
const { INVISIBLE_MS, check, pause, receiveDuring, receiveUntil } = require('./clients');
const {
  ask, checkBodies, checkDeadLetter, checkEachOnce, ids, receiveDeadLetter, sendPoison,
} = require('./steps');

// Two failed attempts; the message as it was delivered.
async function letDie(consumer) {
  let view;
  for (let attempt = 1; attempt <= 2; attempt++) {
    [ view ] = await receiveUntil(consumer, 1, INVISIBLE_MS, false);
    await consumer.changeInvisibleDuration(view, 1000);
  }
  return view;
}

async function deadLetterOrigin(clients) {
  await sendPoison(clients);
  const origin = await letDie(await clients.simple());
  const dead = await receiveDeadLetter(clients);
  for (const what of [
    'messageId', 'body', 'tag', 'keys', 'properties', 'bornHost', 'bornTimestamp',
  ]) {
    check(isDeepStrictEqual(dead[what], origin[what]),
      `${what} ${dead[what]} instead of ${origin[what]}`);
  }
  check(dead.deliveryAttempt === 1, `delivery attempt ${dead.deliveryAttempt}`);
  return `topic ${dead.topic}`;
}

async function redrive(clients) {
  const sent = await sendPoison(clients);
  const consumer = await clients.simple();
  await letDie(consumer);
  await checkDeadLetter(clients, sent);
  await ask('redrive');
  const [ view ] = await receiveUntil(consumer, 1);
  checkBodies([ view ], [ 'poison' ]);
  check(view.tag === 'tag-a', `tag ${view.tag}`);
  check(view.deliveryAttempt === 1, `delivery attempt ${view.deliveryAttempt}`);
  return view.messageId === sent ? 'message id kept' : 'new message id';
}

async function resetEarliest(clients) {
  const sent = await clients.sendAll(await clients.producer(), 20);
  const consumer = await clients.simple();
  await receiveUntil(consumer, 20);
  await ask('reset', { to: 'earliest' });
  checkEachOnce(ids(await receiveUntil(consumer, 20)), sent);
}

async function resetTimestamp(clients) {
  const producer = await clients.producer();
  await clients.sendAll(producer, 10);
  const between = Math.ceil(Date.now() / 1000) * 1000;
  await pause(between - Date.now() + 1);
  const after = await clients.sendAll(producer, 10);
  const consumer = await clients.simple();
  await receiveUntil(consumer, 20);
  await ask('reset', { to: new Date(between).toISOString().replace('.000Z', 'Z') });
  const again = await receiveUntil(consumer, 10);
  again.push(...(await receiveDuring(consumer, 1000)).map(arrival => arrival.view));
  checkEachOnce(ids(again), after);
}

async function resetLatest(clients) {
  const producer = await clients.producer();
  await clients.sendAll(producer, 10);
  const consumer = await clients.simple();
  await receiveUntil(consumer, 1, INVISIBLE_MS, true, 1);
  await ask('reset', { to: 'latest' });
  await producer.send(clients.message('next'));
  const came = await receiveUntil(consumer, 1);
  came.push(...(await receiveDuring(consumer, 1000)).map(arrival => arrival.view));
  checkBodies(came, [ 'next' ]);
}

module.exports = {
  'dead-letter-origin': deadLetterOrigin, redrive, 'reset-earliest': resetEarliest,
  'reset-timestamp': resetTimestamp, 'reset-latest': resetLatest,
};
