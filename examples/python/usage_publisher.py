"""Publishing with JetStream: an event counts as reported when its PubAck is there, and not before."""

import asyncio
import random
import re
import time
from typing import NamedTuple, Optional

import nats.errors
import nats.js.errors

from usage_event import Message

TRY_TIMEOUT = 2.0  # seconds; a change of leader takes about one
FIRST_BACKOFF = 0.1
MAX_BACKOFF = 5.0
FULL = re.compile(r"maximum (bytes|messages|messages per subject) exceeded")


class Refused(Exception):
    """Nothing is stored, and trying again at once would not store it."""


class Unconfirmed(Exception):
    """The event may be stored or not: publish the same one again. Stored twice, it is billed once."""


class Receipt(NamedTuple):
    sequence: int
    duplicate: bool


class Publisher:
    """Stores messages of usage_event through a connection of nats-py."""

    def __init__(self, connection):
        self._connection = connection
        self._js = connection.jetstream()

    async def publish(self, message: Message, deadline: float = 30.0) -> Receipt:
        """Stores a message and returns its receipt: from there on the event will be billed, or
        a person will know.

        Without an answer it publishes the same bytes under the same id again, until
        `deadline` seconds have passed. Raises Refused or Unconfirmed.
        """
        end = time.monotonic() + deadline
        unanswered = False  # an earlier try may have stored it; no later refusal takes that back
        wait = FIRST_BACKOFF
        while True:
            before = self._connection.last_error
            try:
                return await self._try(message)
            except (nats.errors.Error, asyncio.TimeoutError, OSError) as error:
                remedy = self._denial(message.subject, before) or _refusal_of(error)
                if remedy and not unanswered:
                    raise Refused(f"the event was refused and nothing was stored: {error}; {remedy}") from error
                if remedy or time.monotonic() + wait > end:
                    raise Unconfirmed(
                        f"the event may or may not be stored: {error}; publish the same event again"
                    ) from error
                unanswered = unanswered or not isinstance(error, nats.js.errors.NoStreamResponseError)
            await asyncio.sleep(wait * random.uniform(0.5, 1))
            wait = min(2 * wait, MAX_BACKOFF)

    async def _try(self, message: Message) -> Receipt:
        ack = await self._js.publish(
            message.subject, message.body, timeout=TRY_TIMEOUT, headers={"Nats-Msg-Id": message.id}
        )
        return Receipt(ack.seq, bool(ack.duplicate))

    def _denial(self, subject: str, before: Optional[Exception]) -> str:
        """What to do if the server has denied the subject since `before`, or "".

        It tells the connection, not the call, which runs into its time-out.
        """
        last = self._connection.last_error
        denied = f'permissions violation for publish to "{subject.lower()}"' in str(last).lower()
        if denied and last is not before:
            return "permissions violation: let the credentials publish on usage.events.<event_name>.<customer>"
        return ""


def _refusal_of(error: Exception) -> str:
    """What to do about an error that proves that nothing was stored, or "".

    What is not listed here is tried again, which is always safe. The codes are those of the
    server's errors.json.
    """
    if isinstance(error, nats.js.errors.APIError):
        if error.err_code == 10077 and FULL.search(error.description or ""):
            return "the stream is full: try again later, at growing intervals"
        if error.err_code in (10002, 10023, 10028, 10047):
            return "JetStream is full: try again later, at growing intervals"
        if error.err_code in (10054, 10097):
            return "the message is too large for the stream: give the event fewer dimensions"
        if error.err_code == 10109:
            return "the stream is sealed: publish to a live one"
    if isinstance(error, nats.errors.MaxPayloadError):
        return "raise the server's max_payload, or give the event fewer dimensions"
    if isinstance(error, (nats.errors.ConnectionClosedError, nats.errors.ConnectionDrainingError)):
        return "connect again"
    return ""
