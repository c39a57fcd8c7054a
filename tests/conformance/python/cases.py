"""The conformance cases for the official Python client, one function each, by theme.

The driver (../run) says in its case table what every name promises.
"""

import cases_delay
import cases_fifo
import cases_normal
import cases_operation
import cases_selection
import cases_transaction

CASES = {
    function.__name__.replace("_", "-"): function
    for theme in (cases_normal, cases_fifo, cases_delay, cases_transaction, cases_selection,
                  cases_operation)
    for function in theme.CASES
}

# Why the client cannot, for every case of the driver's table that is not above.
UNSUPPORTED = {
    "batch-send": "client sends single messages",
}
