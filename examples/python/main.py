"""A producer in Python: it reads the log of an API from standard input, one JSON object a
line, and reports each request as usage.

    {"request":"req-7f3a","meter":"api_calls","customer":"cus_123","units":1024,"region":"eu","at":"2026-11-22T10:00:00Z"}

For each line it prints where the event is stored, that it was stored before, or why it is
not. It may be run again on the same log at any time, after a crash for example: the same
line always makes the same event, and no event is billed twice.
"""

import asyncio
import json
import os
import sys

import nats

from usage_event import Message, Refusal, message
from usage_publisher import Publisher, Refused, Unconfirmed


def message_of(line: str) -> Message:
    """The message of a line. Identifier and timestamp come from the log: see usage_event.message."""
    request = json.loads(line)
    return message(
        {
            "event_name": request.get("meter"),
            "identifier": request.get("request"),
            "timestamp": request.get("at"),
            "payload": {
                "stripe_customer_id": request.get("customer"),
                "value": request.get("units"),
                "region": request.get("region", ""),
            },
        }
    )


async def dial():
    async def report(error: Exception) -> None:
        print("NATS:", error, file=sys.stderr)

    options = {"max_reconnect_attempts": -1, "error_cb": report, "name": "usage producer"}
    if "NATS_CREDS" in os.environ:
        options["user_credentials"] = os.environ["NATS_CREDS"]
    if "NATS_INBOX_PREFIX" in os.environ:
        options["inbox_prefix"] = os.environ["NATS_INBOX_PREFIX"]
    return await nats.connect(os.environ.get("NATS_URL", "nats://127.0.0.1:4222").split(","), **options)


async def report_line(publisher: Publisher, line: str) -> str:
    receipt = await publisher.publish(message_of(line))
    if receipt.duplicate:
        return f"duplicate of sequence {receipt.sequence}"
    return f"stored sequence={receipt.sequence} identifier={json.loads(line)['request']}"


async def main() -> int:
    connection = await dial()
    publisher = Publisher(connection)
    number = failed = 0
    for number, line in enumerate(sys.stdin, start=1):
        try:
            result = await report_line(publisher, line)
        except (json.JSONDecodeError, Refusal, Refused, Unconfirmed) as error:
            failed += 1
            result = f"error: {error}"
        print(f"line {number}: {result}", flush=True)
    await connection.close()
    if failed:
        print(f"{failed} of {number} lines failed; run it again on the same log", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
