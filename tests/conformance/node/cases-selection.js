// Cases of who gets what first: priorities, lite topics, SQL filters and broadcasting.
'use strict';

const { isDeepStrictEqual } = require('node:util');
const {
  COLLECT_LIMIT_MS, INVISIBLE_MS,
  check, receiveDuring, receiveUntil, sql, waitFor,
} = require('./clients');
const {
  bodiesOf, checkBodies, checkEachOnce, checkInOrder, expectRefusal, ids,
} = require('./steps');

const BROADCAST_MESSAGES = 50;

// From 1 on: this client takes priority 0 for none, and the message for an ordinary one.
async function priority(clients) {
  const producer = await clients.producer();
  for (let round = 0; round < 4; round++) {
    for (const level of [ 1, 2, 3 ]) {
      await producer.send(clients.message(`level-${level}`, { priority: level }));
    }
  }
  const got = await receiveUntil(await clients.simple(), 12);
  const came = got.map(view => view.priority);
  check(isDeepStrictEqual(came, [ ...came ].sort().reverse()), `priorities came as ${came}`);
  checkBodies(got, came.map(level => `level-${level}`));
}

async function sendLight(clients, producer, names, places) {
  for (const place of places) {
    for (const name of names) {
      await producer.send(clients.message(String(place), { liteTopic: name }));
    }
  }
}

async function liteSubscribe(clients) {
  const { consumer, heard } = await clients.startLitePush();
  for (const name of [ 'one', 'two' ]) await consumer.subscribeLite(name);
  await sendLight(clients, await clients.producer(), [ 'one', 'two', 'three' ], [ 0, 1, 2, 3, 4 ]);
  await waitFor(COLLECT_LIMIT_MS, () => heard.length >= 10);
  check(!await waitFor(2000, () => heard.length > 10), 'too many messages came');
  checkInOrder(heard, 2, 5, view => view.liteTopic);
}

async function liteUnsubscribe(clients) {
  const { consumer, heard } = await clients.startLitePush();
  const producer = await clients.producer();
  for (const name of [ 'one', 'two' ]) await consumer.subscribeLite(name);
  await sendLight(clients, producer, [ 'one', 'two' ], [ 0 ]);
  check(await waitFor(COLLECT_LIMIT_MS, () => heard.length >= 2),
    `${heard.length} messages of 2 came`);
  await consumer.unsubscribeLite('two');
  await sendLight(clients, producer, [ 'one', 'two' ], [ 1, 2, 3 ]);
  await waitFor(COLLECT_LIMIT_MS, () => heard.length >= 5);
  await waitFor(3000, () => heard.length > 5);
  const came = heard.map(view => `${view.liteTopic}-${view.body}`).sort();
  check(isDeepStrictEqual(came, [ 'one-0', 'one-1', 'one-2', 'one-3', 'two-0' ]), `${came} came`);
}

// Five of each: blue and heavy, blue and light, red and heavy, without any property.
async function sendColoured(clients) {
  const producer = await clients.producer();
  const kinds = [[ 'blue', '20' ], [ 'blue', '5' ], [ 'red', '20' ], []];
  for (let round = 0; round < 5; round++) {
    for (const [ colour, weight ] of kinds) {
      const properties = colour && new Map([[ 'colour', colour ], [ 'weight', weight ]]);
      await producer.send(clients.message(`${colour}-${weight}`, { properties }));
    }
  }
}

const BLUE_AND_HEAVY = sql("colour = 'blue' AND weight > 10");

async function sqlFilter(clients) {
  await sendColoured(clients);
  const consumer = await clients.simple({ expression: BLUE_AND_HEAVY });
  const came = await receiveUntil(consumer, 5);
  came.push(...(await receiveDuring(consumer, 2000)).map(arrival => arrival.view));
  checkBodies(came, Array(5).fill('blue-20'));
}

async function sqlFilterPush(clients) {
  const heard = await clients.push(() => true, clients.group, BLUE_AND_HEAVY);
  await sendColoured(clients);
  await waitFor(COLLECT_LIMIT_MS, () => heard.length >= 5);
  await waitFor(2000, () => heard.length > 5);
  checkBodies(heard, Array(5).fill('blue-20'));
}

async function sqlNull(clients) {
  await sendColoured(clients);
  for (const [ group, text, expected ] of [
    [ clients.group, "colour <> 'red'", [ 'blue-20', 'blue-5' ] ],
    [ clients.secondGroup, 'colour IS NULL', [ 'undefined-undefined' ] ],
  ]) {
    const consumer = await clients.simple({ group, expression: sql(text) });
    const views = await receiveUntil(consumer, expected.length * 5);
    views.push(...(await receiveDuring(consumer, 2000)).map(arrival => arrival.view));
    const came = bodiesOf(views);
    check(isDeepStrictEqual([ ...new Set(came) ].sort(), expected)
      && came.length === expected.length * 5, `${came} came for ${text}`);
  }
}

function sqlBroken(clients) {
  return expectRefusal(async () => {
    const consumer = await clients.simple({ expression: sql("colour = = 'blue' AND") });
    await consumer.receive(16, INVISIBLE_MS);
  }, 'ILLEGAL_FILTER_EXPRESSION', '40010');
}

async function broadcasting(clients) {
  const [ first, second ] = [ await clients.push(), await clients.push() ];
  const sent = await clients.sendAll(await clients.producer(), BROADCAST_MESSAGES);
  const count = () => first.length + second.length;
  await waitFor(COLLECT_LIMIT_MS, () => count() >= 2 * BROADCAST_MESSAGES);
  await waitFor(2000, () => count() > 2 * BROADCAST_MESSAGES);
  for (const heard of [ first, second ]) checkEachOnce(ids(heard), sent);
}

async function broadcastingSimple(clients) {
  const consumers = [ await clients.simple(), await clients.simple() ];
  const sent = await clients.sendAll(await clients.producer(), BROADCAST_MESSAGES);
  for (const consumer of consumers) {
    const got = await receiveUntil(consumer, BROADCAST_MESSAGES);
    got.push(...(await receiveDuring(consumer, 1000)).map(arrival => arrival.view));
    checkEachOnce(ids(got), sent);
  }
}

module.exports = {
  priority, 'lite-subscribe': liteSubscribe, 'lite-unsubscribe': liteUnsubscribe,
  'sql-filter': sqlFilter, 'sql-filter-push': sqlFilterPush, 'sql-null': sqlNull,
  'sql-broken': sqlBroken, broadcasting, 'broadcasting-simple': broadcastingSimple,
};
