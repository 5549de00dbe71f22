// A usage event as the message that meterworker bills: its rules, its subject, its message
// id. It needs nothing but Node, so that it can be copied into any service.
//
// What the worker would bury as a dead letter is refused here, where somebody can still
// mend it; and the same event becomes the same bytes here as in package `usage` for Go, so
// that JetStream knows a repeat whoever sends it.

import { createHash } from "node:crypto";

const MAX_BODY = 64 * 1024; // bytes
const MAX_EVENT_NAME = 100; // characters, as are the next two
const MAX_IDENTIFIER = 255;
const MAX_DIMENSION = 100; // of the customer, of a payload key and of a payload value
const MAX_UNITS = 999_999_999_999_999; // 15 digits: more lose precision at Stripe
const MAX_AGE = 35 * 24 * 3600; // seconds; Stripe refuses older timestamps
const MAX_AHEAD = 5 * 60; // seconds; Stripe refuses later ones
const KEYS = new Set(["event_name", "identifier", "timestamp", "payload"]);

/** Why something is no event; `reason` is the one that its dead letter would have. */
export class Refusal extends Error {
  constructor(reason, detail) {
    super(`${reason}: ${detail}`);
    this.name = "Refusal";
    this.reason = reason;
  }
}

/**
 * Makes the message of an event, or throws a Refusal:
 *
 *     message({
 *       event_name: "api_calls",
 *       identifier: "req-7f3a",          // the same whenever the same usage is reported
 *       timestamp: new Date(),           // of the usage; also Unix seconds or RFC 3339
 *       payload: { stripe_customer_id: "cus_123", value: 1024, region: "eu" },
 *     })
 *
 * Identifier and timestamp, which the worker could do without, are required: what it
 * would fill in is another after a crash, and the usage would be billed again.
 */
export function message(event, now = Date.now()) {
  checkShape(event);
  const seconds = readTimestamp(event.timestamp);
  checkText("invalid_event_name", "event_name", event.event_name, MAX_EVENT_NAME);
  checkText("invalid_identifier", "identifier", event.identifier, MAX_IDENTIFIER);
  checkPayload(event.payload);
  const { stripe_customer_id: customer, value } = event.payload;
  if (customer === undefined || customer === "") {
    throw new Refusal("meter_event_no_customer_defined", "payload.stripe_customer_id is missing or empty");
  }
  const units = readUnits(value);
  checkWindow(seconds, Math.floor(now / 1000));
  const subject = `usage.events.${encodeToken(event.event_name)}.${encodeToken(customer)}`;
  const body = Buffer.from(write(event, seconds, units));
  if (body.length > MAX_BODY) {
    throw new Refusal("too_large", `the event takes ${body.length} bytes as JSON, at most ${MAX_BODY} are taken`);
  }
  return { subject, body, id: messageID(subject, body) };
}

/** Writes text as one token of a subject: every byte outside [A-Za-z0-9_-] becomes =XX. */
export function encodeToken(text) {
  return Array.from(Buffer.from(text), (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9_-]/.test(character) ? character : "=" + byte.toString(16).toUpperCase().padStart(2, "0");
  }).join("");
}

/**
 * Differs as soon as subject or body do. So JetStream drops exact repeats only, and an
 * identifier that is used for two contents still comes to light.
 */
export function messageID(subject, body) {
  return createHash("sha256").update(subject).update("\0").update(body).digest("hex").slice(0, 32);
}

function checkShape(event) {
  if (!isObject(event)) {
    throw new Refusal("undecodable", "an event is an object");
  }
  for (const key of Object.keys(event)) {
    if (!KEYS.has(key)) {
      throw new Refusal("undecodable", `the key ${JSON.stringify(key)} is unknown; dimensions go into payload`);
    }
  }
  if (!wellFormed(event) || (isObject(event.payload) && !wellFormed(event.payload))) {
    throw new Refusal("undecodable", "a text holds half of a surrogate pair, which UTF-8 cannot express");
  }
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function wellFormed(object) {
  return Object.entries(object)
    .flat()
    .every((text) => typeof text !== "string" || !/\p{Surrogate}/u.test(text));
}

/** Says what keeps text from being 1 to `limit` characters without control characters, or "". */
function flawOf(text, limit) {
  if (typeof text !== "string") return "is missing or not a string";
  if (text === "") return "is empty";
  if (text.length > limit && [...text].length > limit) return `has more than ${limit} characters`;
  if (/\p{Cc}/u.test(text)) return "has a control character";
  return "";
}

function checkText(reason, name, text, limit) {
  const flaw = flawOf(text, limit);
  if (flaw !== "") {
    throw new Refusal(reason, `${name} ${flaw}`);
  }
}

function checkPayload(payload) {
  if (!isObject(payload)) {
    throw new Refusal("invalid_payload", "payload is missing or not an object");
  }
  for (const [key, value] of Object.entries(payload)) {
    if (key === "value") continue; // a reason of its own
    checkText("invalid_payload", `the payload key ${JSON.stringify(key.slice(0, 40))}`, key, MAX_DIMENSION);
    if (/[[\]]/.test(key)) {
      throw new Refusal("invalid_payload", "a payload key has a bracket, which Stripe gives another meaning");
    }
    const plain = key !== "stripe_customer_id" && (typeof value === "boolean" || Number.isFinite(value));
    const text = plain ? String(value) : value;
    if (text !== "") {
      checkText("invalid_payload", `payload[${JSON.stringify(key)}]`, text, MAX_DIMENSION);
    }
  }
}

function readUnits(value) {
  const digits = typeof value === "string" && /^-?(0|[1-9][0-9]{0,14})$/.test(value);
  const units = digits ? Number(value) : value;
  if (!Number.isInteger(units) || Math.abs(units) > MAX_UNITS) {
    throw new Refusal("meter_event_invalid_value", "payload.value is not an integer of at most 15 digits");
  }
  return units + 0 === 0 ? 0 : units; // -0 is 0
}

const RFC_3339 =
  /^(\d{4})-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:\.\d+)?(?:Z|([+-])([01]\d|2[0-3]):([0-5]\d))$/;

/** Reads Unix seconds, as a number or a string, a Date or RFC 3339, cut downward to seconds. */
function readTimestamp(timestamp) {
  if (timestamp instanceof Date) return readTimestamp(Math.floor(timestamp.getTime() / 1000));
  if (Number.isInteger(timestamp)) return timestamp;
  if (typeof timestamp === "string" && /^-?(0|[1-9][0-9]*)$/.test(timestamp)) return Number(timestamp);
  const match = typeof timestamp === "string" && RFC_3339.exec(timestamp);
  if (!match) {
    throw new Refusal("undecodable", "timestamp is missing or cannot be read; send a Date, Unix seconds or RFC 3339");
  }
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map(Number);
  const local = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  if (local.getUTCDate() !== day) {
    throw new Refusal("undecodable", "timestamp names a day that does not exist");
  }
  const offset = match[7] ? Number(match[7] + "1") * (Number(match[8]) * 3600 + Number(match[9]) * 60) : 0;
  return local.getTime() / 1000 - offset;
}

function checkWindow(seconds, now) {
  if (seconds < now - MAX_AGE) {
    throw new Refusal("timestamp_too_far_in_past", "the timestamp is older than 35 days, and Stripe refuses such");
  }
  if (seconds > now + MAX_AHEAD) {
    throw new Refusal("timestamp_in_future", "the timestamp is more than 5 minutes ahead; is it in milliseconds?");
  }
}

/**
 * Writes the body: fixed order, payload sorted by the bytes of its keys, dimensions as
 * strings. JSON.stringify of an object would move keys that look like numbers.
 */
function write(event, seconds, units) {
  const pairs = Object.entries(event.payload)
    .sort(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
    .map(([key, value]) => `${JSON.stringify(key)}:${key === "value" ? units : JSON.stringify(String(value))}`);
  return (
    `{"event_name":${JSON.stringify(event.event_name)},"identifier":${JSON.stringify(event.identifier)},` +
    `"timestamp":${seconds},"payload":{${pairs.join(",")}}}`
  );
}
