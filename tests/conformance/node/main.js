// Runs one conformance case with the official Node.js client and prints one JSON line.
// The cases are in cases-*.js. The process ends at once after the answer, without waiting
// for the client's long polls.
'use strict';

const { parseArgs } = require('node:util');
const { Clients } = require('./clients');
const { cases, unsupported } = require('./cases');
const { errorText } = require('./steps');

const { values } = parseArgs({
  options: {
    endpoint: { type: 'string' },
    case: { type: 'string' },
    topic: { type: 'string', default: 'conformance' },
    group: { type: 'string', default: 'conformance' },
    'second-group': { type: 'string', default: 'conformance-second' },
    'unknown-topic': { type: 'string', default: 'no-such-topic' },
    'large-body-bytes': { type: 'string', default: '4194304' },
    tls: { type: 'boolean', default: false },
  },
});

async function main() {
  const answer = { case: values.case, result: 'unsupported', detail: unsupported[values.case] };
  if (!answer.detail) {
    try {
      answer.detail = (await cases[values.case](new Clients(values))) || '';
      answer.result = 'pass';
    } catch (error) {
      answer.detail = errorText(error);
      answer.result = 'fail';
    }
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`, () => process.exit(0));
}

main();
