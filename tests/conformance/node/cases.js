// The conformance cases for the official Node.js client, one function each, by theme. The
// driver (../run) says in its case table what every name promises.
'use strict';

const cases = {
  ...require('./cases-normal'), ...require('./cases-fifo'), ...require('./cases-delay'),
  ...require('./cases-transaction'), ...require('./cases-selection'),
  ...require('./cases-operation'),
};

// Why the client cannot, for every case of the driver's table that is not above.
const unsupported = {
  'batch-send': 'client sends single messages',
  'lite-simple': 'client has no simple consumer of lite topics',
};

module.exports = { cases, unsupported };
