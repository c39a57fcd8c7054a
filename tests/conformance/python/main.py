"""Runs one conformance case with the official Python client and prints one JSON line.

The case's own work is in cases.py. The process ends at once after the answer: a client
that waits for its long polls at shutdown must not hold up the driver.
"""

import argparse
import json
import os
import sys

from cases import CASES, error_text
from clients import Clients


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
    case = CASES.get(given.case)
    answer = {"case": given.case, "result": "unsupported", "detail": "client has no such call"}
    if case:
        try:
            answer.update(result="pass", detail=case(Clients(given)) or "")
        except Exception as error:
            answer.update(result="fail", detail=error_text(error))
    print(json.dumps(answer), flush=True)
    sys.stderr.flush()
    os._exit(0)


main()
