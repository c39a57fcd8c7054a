"""Runs one conformance case with the official Python client and prints one JSON line.

The cases are in cases_*.py. The process ends at once after the answer: a client
that waits for its long polls at shutdown must not hold up the driver.
"""

import argparse
import json
import os
import sys

from cases import CASES, UNSUPPORTED
from clients import Clients
from steps import error_text


def options():
    parser = argparse.ArgumentParser()
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--case", required=True)
    parser.add_argument("--topic", default="conformance")
    parser.add_argument("--group", default="conformance")
    parser.add_argument("--second-group", default="conformance-second")
    parser.add_argument("--unknown-topic", default="no-such-topic")
    parser.add_argument("--large-body-bytes", type=int, default=4 * 1024 * 1024)
    parser.add_argument("--tls", action="store_true")
    return parser.parse_args()


def main():
    given = options()
    answer = {"case": given.case, "result": "unsupported"}
    if given.case in UNSUPPORTED:
        answer["detail"] = UNSUPPORTED[given.case]
    else:
        try:
            answer.update(result="pass", detail=CASES[given.case](Clients(given)) or "")
        except Exception as error:
            answer.update(result="fail", detail=error_text(error))
    print(json.dumps(answer), flush=True)
    sys.stderr.flush()
    os._exit(0)


main()
