"""A usage event as the message that meterworker bills: its rules, its subject, its message id.

It needs nothing but Python 3.9, so that it can be copied into any service.

What the worker would bury as a dead letter is refused here, where somebody can still mend
it; and the same event becomes the same bytes here as in package `usage` for Go, so that
JetStream knows a repeat whoever sends it.
"""

import calendar
import hashlib
import json
import math
import re
import time
from datetime import datetime
from typing import Any, Dict, NamedTuple, Optional

MAX_BODY = 64 * 1024  # bytes
MAX_EVENT_NAME = 100  # characters, as are the next two
MAX_IDENTIFIER = 255
MAX_DIMENSION = 100  # of the customer, of a payload key and of a payload value
MAX_UNITS = 999_999_999_999_999  # 15 digits: more lose precision at Stripe
MAX_AGE = 35 * 24 * 3600  # seconds; Stripe refuses older timestamps
MAX_AHEAD = 5 * 60  # seconds; Stripe refuses later ones
KEYS = {"event_name", "identifier", "timestamp", "payload"}

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair: UTF-8 cannot express it
UNITS = re.compile(r"-?(0|[1-9][0-9]{0,14})")
SECONDS = re.compile(r"-?(0|[1-9][0-9]*)")
RFC_3339 = re.compile(
    r"([0-9]{4})-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):([0-5][0-9]):([0-5][0-9])(?:\.[0-9]+)?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))"
)


class Refusal(ValueError):
    """Why something is no event; `reason` is the one that its dead letter would have."""

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class Message(NamedTuple):
    subject: str
    body: bytes
    id: str  # for the header Nats-Msg-Id


def message(event: Dict[str, Any], now: Optional[float] = None) -> Message:
    """Makes the message of an event, or raises a Refusal:

        message({
            "event_name": "api_calls",
            "identifier": "req-7f3a",   # the same whenever the same usage is reported
            "timestamp": datetime.now(timezone.utc),  # of the usage; also Unix seconds or RFC 3339
            "payload": {"stripe_customer_id": "cus_123", "value": 1024, "region": "eu"},
        })

    Identifier and timestamp, which the worker could do without, are required: what it
    would fill in is another after a crash, and the usage would be billed again.
    """
    _check_shape(event)
    seconds = _read_timestamp(event.get("timestamp"))
    _check_text("invalid_event_name", "event_name", event.get("event_name"), MAX_EVENT_NAME)
    _check_text("invalid_identifier", "identifier", event.get("identifier"), MAX_IDENTIFIER)
    payload = event.get("payload")
    _check_payload(payload)
    customer = payload.get("stripe_customer_id", "")
    if customer == "":
        raise Refusal("meter_event_no_customer_defined", "payload.stripe_customer_id is missing or empty")
    units = _read_units(payload.get("value"))
    _check_window(seconds, math.floor(time.time() if now is None else now))
    subject = f"usage.events.{encode_token(event['event_name'])}.{encode_token(customer)}"
    body = _write(event, seconds, units).encode()
    if len(body) > MAX_BODY:
        raise Refusal("too_large", f"the event takes {len(body)} bytes as JSON, at most {MAX_BODY} are taken")
    return Message(subject, body, message_id(subject, body))


def encode_token(text: str) -> str:
    """Writes text as one token of a subject: every byte outside [A-Za-z0-9_-] becomes =XX."""
    return "".join(chr(b) if re.match(rb"[A-Za-z0-9_-]", bytes([b])) else f"={b:02X}" for b in text.encode())


def message_id(subject: str, body: bytes) -> str:
    """Differs as soon as subject or body do.

    So JetStream drops exact repeats only, and an identifier that is used for two contents
    still comes to light.
    """
    return hashlib.sha256(subject.encode() + b"\0" + body).hexdigest()[:32]


def _check_shape(event: Any) -> None:
    if not isinstance(event, dict):
        raise Refusal("undecodable", "an event is a dict")
    for key in event:
        if key not in KEYS:
            raise Refusal("undecodable", f"the key {key!r} is unknown; dimensions go into payload")
    payload = event.get("payload")
    pairs = list(event.items()) + (list(payload.items()) if isinstance(payload, dict) else [])
    if any(isinstance(text, str) and SURROGATE.search(text) for pair in pairs for text in pair):
        raise Refusal("undecodable", "a text holds half of a surrogate pair, which UTF-8 cannot express")


def _check_text(reason: str, name: str, text: Any, limit: int) -> None:
    flaw = ""
    if not isinstance(text, str):
        flaw = "is missing or not a string"
    elif text == "":
        flaw = "is empty"
    elif len(text) > limit:
        flaw = f"has more than {limit} characters"
    elif CONTROL.search(text):
        flaw = "has a control character"
    if flaw:
        raise Refusal(reason, f"{name} {flaw}")


def _check_payload(payload: Any) -> None:
    if not isinstance(payload, dict):
        raise Refusal("invalid_payload", "payload is missing or not a dict")
    for key, value in payload.items():
        if key == "value":
            continue  # a reason of its own
        _check_text("invalid_payload", f"the payload key {str(key)[:40]!r}", key, MAX_DIMENSION)
        if "[" in key or "]" in key:
            raise Refusal("invalid_payload", "a payload key has a bracket, which Stripe gives another meaning")
        text = value if key == "stripe_customer_id" else _text_of(value)
        if text != "":
            _check_text("invalid_payload", f"payload[{key!r}]", text, MAX_DIMENSION)


def _text_of(value: Any) -> Any:
    """A number or a boolean as JSON spells it; anything else as it is."""
    if isinstance(value, (bool, int)) or isinstance(value, float) and math.isfinite(value):
        return json.dumps(value)
    return value


def _read_units(value: Any) -> int:
    if isinstance(value, str) and UNITS.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_UNITS:
        raise Refusal("meter_event_invalid_value", "payload.value is not an integer of at most 15 digits")
    return value


def _read_timestamp(timestamp: Any) -> int:
    """Reads Unix seconds, as a number or a string, a datetime with its zone or RFC 3339, cut
    downward to seconds."""
    if isinstance(timestamp, datetime) and timestamp.tzinfo is not None:
        return math.floor(timestamp.timestamp())
    if isinstance(timestamp, int) and not isinstance(timestamp, bool):
        return timestamp
    if isinstance(timestamp, str) and SECONDS.fullmatch(timestamp):
        return int(timestamp)
    match = RFC_3339.fullmatch(timestamp) if isinstance(timestamp, str) else None
    if match is None:
        raise Refusal(
            "undecodable", "timestamp is missing or cannot be read; send Unix seconds, RFC 3339 or a datetime with its zone"
        )
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    if day > calendar.monthrange(year, month)[1]:
        raise Refusal("undecodable", "timestamp names a day that does not exist")
    sign, hours, minutes = match.groups()[6:]
    offset = int(sign + "1") * (int(hours) * 3600 + int(minutes) * 60) if sign else 0
    year = max(year, 1)  # calendar knows no year 0, and any year near it is too old
    return calendar.timegm((year, month, day, hour, minute, second)) - offset


def _check_window(seconds: int, now: int) -> None:
    if seconds < now - MAX_AGE:
        raise Refusal("timestamp_too_far_in_past", "the timestamp is older than 35 days, and Stripe refuses such")
    if seconds > now + MAX_AHEAD:
        raise Refusal("timestamp_in_future", "the timestamp is more than 5 minutes ahead; is it in milliseconds?")


def _write(event: Dict[str, Any], seconds: int, units: int) -> str:
    """The body: fixed order, payload sorted by the bytes of its keys, dimensions as strings."""
    def text(value: str) -> str:
        return json.dumps(value, ensure_ascii=False)

    pairs = sorted(event["payload"].items(), key=lambda pair: pair[0].encode())
    payload = ",".join(f"{text(key)}:{units if key == 'value' else text(_text_of(value))}" for key, value in pairs)
    return (
        f'{{"event_name":{text(event["event_name"])},"identifier":{text(event["identifier"])},'
        f'"timestamp":{seconds},"payload":{{{payload}}}}}'
    )
