// Publishing with JetStream: an event counts as reported when its PubAck is there, and
// not before.

import { JetStreamApiError, jetstream } from "@nats-io/jetstream";
import { PermissionViolationError } from "@nats-io/transport-node";
import { setTimeout as pause } from "node:timers/promises";

const TRY_TIMEOUT = 2_000; // ms; a change of leader takes about one second
const FIRST_BACKOFF = 100; // ms
const MAX_BACKOFF = 5_000; // ms

/** Nothing is stored, and trying again at once would not store it. */
export class Refused extends Error {}

/** The event may be stored or not: publish the same one again. Stored twice, it is billed once. */
export class Unconfirmed extends Error {}

export class Publisher {
  constructor(connection) {
    this.js = jetstream(connection);
  }

  /**
   * Stores a message from event.js and returns its PubAck: from there on the event will be
   * billed, or a person will know. Without an answer it publishes the same bytes under the
   * same id again, until `deadline` ms have passed. Throws Refused or Unconfirmed.
   */
  async publish({ subject, body, id }, deadline = 30_000) {
    const end = Date.now() + deadline;
    let unanswered = false; // an earlier try may have stored it; no later refusal takes that back
    for (let wait = FIRST_BACKOFF; ; wait = Math.min(2 * wait, MAX_BACKOFF)) {
      try {
        const { seq, duplicate } = await this.js.publish(subject, body, { msgID: id, timeout: TRY_TIMEOUT });
        return { sequence: seq, duplicate };
      } catch (error) {
        const remedy = refusalOf(error);
        if (remedy !== "" && !unanswered) {
          throw new Refused(`the event was refused and nothing was stored: ${error.message}; ${remedy}`, { cause: error });
        }
        if (remedy !== "" || Date.now() + wait > end) {
          throw new Unconfirmed(`the event may or may not be stored: ${error.message}; publish the same event again`, { cause: error });
        }
        unanswered ||= mayBeStored(error);
      }
      await pause(wait * (0.5 + Math.random() / 2));
    }
  }
}

/** Without a stream nobody listens ("no responders"), and nothing is stored. */
function mayBeStored(error) {
  return error.name !== "JetStreamNotEnabled";
}

/**
 * Says what to do about an error that proves that nothing was stored, or "". What is not
 * listed here is tried again, which is always safe.
 */
function refusalOf(error) {
  if (error instanceof JetStreamApiError) {
    return refusalOfServer(error.code, error.message);
  }
  if (error.cause instanceof PermissionViolationError || error instanceof PermissionViolationError) {
    return "let the credentials publish on usage.events.<event_name>.<customer>";
  }
  if (error.name === "InvalidArgumentError") {
    return "raise the server's max_payload, or give the event fewer dimensions";
  }
  if (error.name === "ClosedConnectionError" || error.name === "DrainingConnectionError") {
    return "connect again";
  }
  return "";
}

/** The error codes are those of the server's errors.json. */
function refusalOfServer(code, description) {
  switch (code) {
    case 10077: // carries any error of the store; after one of the disk it may be stored
      return /maximum (bytes|messages|messages per subject) exceeded/.test(description)
        ? "the stream is full: try again later, at growing intervals"
        : "";
    case 10002:
    case 10023:
    case 10028:
    case 10047:
      return "JetStream is full: try again later, at growing intervals";
    case 10054:
    case 10097:
      return "the message is too large for the stream: give the event fewer dimensions";
    case 10109:
      return "the stream is sealed: publish to a live one";
    default:
      return "";
  }
}
