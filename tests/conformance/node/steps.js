// Steps that several cases take.
'use strict';

const { isDeepStrictEqual } = require('node:util');
const { COLLECT_LIMIT_MS, check, pause, receiveUntil } = require('./clients');

// How much before its duration a lease may end: clocks and rounding of two processes.
const EARLY_MS = 500;

const ids = views => views.map(view => view.messageId);
const bodiesOf = views => views.map(view => view.body.toString());
const seconds = milliseconds => `${(milliseconds / 1000).toFixed(1)} s`;

function checkEachOnce(got, sent) {
  check(isDeepStrictEqual([ ...got ].sort(), [ ...sent ].sort()),
    `${got.length} deliveries for ${sent.length} messages`);
}

function checkBodies(views, expected) {
  const came = bodiesOf(views);
  check(isDeepStrictEqual(came, expected), `came as ${came}`);
}

// Every message group in turn; a body is its place in the group.
async function sendInGroups(clients, groups, each) {
  const producer = await clients.producer();
  for (let n = 0; n < each; n++) {
    for (let group = 0; group < groups; group++) {
      await producer.send(clients.message(String(n), { messageGroup: `group-${group}` }));
    }
  }
}

// Each group is there from first to last, nothing twice.
function checkInOrder(views, groups, each, name = view => view.messageGroup) {
  const got = new Map();
  for (const view of views) {
    got.set(name(view), [ ...got.get(name(view)) ?? [], Number(view.body.toString()) ]);
  }
  check(got.size === groups, `${got.size} groups of ${groups}: ${[ ...got.keys() ].slice(0, 10)}`);
  for (const [ group, places ] of got) {
    check(isDeepStrictEqual(places, [ ...Array(each).keys() ]), `${group} came as ${places}`);
  }
}

// The dead letter topic may appear with the first dead letter.
async function openDeadLetters(clients) {
  const ends = Date.now() + COLLECT_LIMIT_MS;
  for (;;) {
    try {
      return await clients.simple({ group: clients.secondGroup, topic: `%DLQ%${clients.group}` });
    } catch (missing) {
      if (Date.now() > ends) throw missing;
      await pause(500);
    }
  }
}

async function receiveDeadLetter(clients) {
  const [ got ] = await receiveUntil(await openDeadLetters(clients), 1);
  return got;
}

async function checkDeadLetter(clients, sent) {
  const got = await receiveDeadLetter(clients);
  check(got.body.toString() === 'poison', 'another message is in the dead letters');
  check(got.tag === 'tag-a', `tag ${got.tag}`);
  check(got.properties.get('colour') === 'blue', `properties ${[ ...got.properties ]}`);
  return got.messageId === sent ? 'message id kept' : 'new message id';
}

async function sendPoison(clients, more = {}) {
  const message = clients.message('poison', {
    tag: 'tag-a', keys: [ 'key-1' ], properties: new Map([[ 'colour', 'blue' ]]), ...more,
  });
  return (await (await clients.producer()).send(message)).messageId;
}

// The error with its causes, in one line.
function errorText(error) {
  const parts = [];
  for (let cause = error; cause; cause = cause.cause) {
    parts.push(String(cause).replace(/\s+/g, ' '));
  }
  return parts.join(' <- ');
}

async function expectRefusal(action, ...words) {
  let refusal;
  try {
    await action();
  } catch (error) {
    refusal = errorText(error);
  }
  check(refusal, 'nothing was refused');
  check(words.some(word => refusal.includes(word)), `unclear error: ${refusal}`);
  return refusal;
}

// Asks the driver to do something to the broker, and waits until that is done: "restart"
// kills it and starts it again, "reset" and "redrive" are its commands.
function ask(event, more = {}) {
  const done = new Promise(resolve => process.stdin.once('data', resolve));
  process.stdout.write(`${JSON.stringify({ event, ...more })}\n`);
  return done;
}

module.exports = {
  EARLY_MS,
  ask, bodiesOf, checkBodies, checkDeadLetter, checkEachOnce, checkInOrder, errorText,
  expectRefusal, ids, receiveDeadLetter, seconds, sendInGroups, sendPoison,
};
