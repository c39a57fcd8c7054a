// Cases of messages that become visible with a transaction.
'use strict';

const { isDeepStrictEqual } = require('node:util');
const {
  TransactionResolution, check, receiveDuring, receiveUntil, waitFor,
} = require('./clients');
const { ask, checkBodies, ids, seconds } = require('./steps');

const CHECK_AFTER_MS = { least: 5500, most: 12_000 };
const CHECK_LIMIT_MS = 30_000;
const { COMMIT, ROLLBACK, TRANSACTION_RESOLUTION_UNSPECIFIED: UNKNOWN } = TransactionResolution;

// Answers the broker's questions about transactions, and remembers them.
class Checker {
  constructor(resolution) {
    this.asked = [];
    this.resolution = resolution;
  }

  async check(view) {
    this.asked.push({ view, at: Date.now() });
    return this.resolution;
  }
}

// A half message of a new producer; its transaction, message id and time.
async function begin(clients, checker) {
  const producer = await clients.producer(clients.topic, checker);
  const transaction = producer.beginTransaction();
  const { messageId } = await producer.send(clients.message('half', {
    tag: 'tag-a', properties: new Map([[ 'colour', 'blue' ]]),
  }), transaction);
  return { transaction, messageId, at: Date.now() };
}

function checkWhole(view, messageId) {
  check(view.messageId === messageId, `message id ${view.messageId}`);
  checkBodies([ view ], [ 'half' ]);
  check(view.tag === 'tag-a', `tag ${view.tag}`);
  check(isDeepStrictEqual(view.properties, new Map([[ 'colour', 'blue' ]])),
    `properties ${[ ...view.properties ]}`);
}

// The producer was asked about its message; when.
async function checkAsked(checker, half) {
  check(await waitFor(CHECK_LIMIT_MS, () => checker.asked.length > 0),
    `nobody was asked for ${seconds(CHECK_LIMIT_MS)}`);
  checkWhole(checker.asked[0].view, half.messageId);
  return checker.asked[0].at;
}

async function checkAskedInTime(checker, half) {
  const waited = await checkAsked(checker, half) - half.at;
  check(waited >= CHECK_AFTER_MS.least && waited <= CHECK_AFTER_MS.most,
    `asked after ${seconds(waited)}`);
  return `asked after ${seconds(waited)}`;
}

async function transactionCommit(clients) {
  const half = await begin(clients, new Checker(COMMIT));
  const consumer = await clients.simple();
  await half.transaction.commit();
  const committed = Date.now();
  const [ view ] = await receiveUntil(consumer, 1);
  const waited = Date.now() - committed;
  checkWhole(view, half.messageId);
  check(waited <= 2000, `came after ${seconds(waited)}`);
}

async function transactionInvisible(clients) {
  const half = await begin(clients, new Checker(UNKNOWN));
  const consumer = await clients.simple();
  check((await receiveDuring(consumer, 4000)).length === 0, 'came before the commit');
  await half.transaction.commit();
  const came = ids(await receiveUntil(consumer, 1));
  check(isDeepStrictEqual(came, [ half.messageId ]), 'another message came');
}

async function transactionRollback(clients) {
  const checker = new Checker(COMMIT);
  const half = await begin(clients, checker);
  await half.transaction.rollback();
  const came = await receiveDuring(await clients.simple(), 9000);
  check(came.length === 0, 'came in spite of the rollback');
  check(checker.asked.length === 0, 'asked about a finished transaction');
}

async function transactionCheck(clients) {
  const checker = new Checker(COMMIT);
  const half = await begin(clients, checker);
  const [ view ] = await receiveUntil(await clients.simple(), 1);
  checkWhole(view, half.messageId);
  return checkAskedInTime(checker, half);
}

async function transactionCheckRollback(clients) {
  const checker = new Checker(ROLLBACK);
  const half = await begin(clients, checker);
  const detail = await checkAskedInTime(checker, half);
  const came = await receiveDuring(await clients.simple(), 3000);
  check(came.length === 0, 'came in spite of the rollback');
  return detail;
}

async function transactionRestart(clients) {
  const checker = new Checker(COMMIT);
  const half = await begin(clients, checker);
  await ask('restart');
  await clients.producer(clients.topic, checker);
  const consumer = await clients.simple();
  await checkAsked(checker, half);
  const came = await receiveUntil(consumer, 1);
  came.push(...(await receiveDuring(consumer, 1000)).map(arrival => arrival.view));
  checkBodies(came, [ 'half' ]);
  checkWhole(came[0], half.messageId);
}

module.exports = {
  'transaction-commit': transactionCommit, 'transaction-invisible': transactionInvisible,
  'transaction-rollback': transactionRollback, 'transaction-check': transactionCheck,
  'transaction-check-rollback': transactionCheckRollback,
  'transaction-restart': transactionRestart,
};
