// A producer for Node: it reads the log of an API from standard input, one JSON object a
// line, and reports each request as usage.
//
//   {"request":"req-7f3a","meter":"api_calls","customer":"cus_123","units":1024,"region":"eu","at":"2026-11-22T10:00:00Z"}
//
// For each line it prints where the event is stored, that it was stored before, or why it is
// not. It may be run again on the same log at any time, after a crash for example: the same
// line always makes the same event, and no event is billed twice.

import { connect, credsAuthenticator } from "@nats-io/transport-node";
import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { message } from "./event.js";
import { Publisher } from "./publisher.js";

/** Makes the message of a line. Identifier and timestamp come from the log: see message. */
function messageOf(line) {
  const { request, meter, customer, units, region = "", at } = JSON.parse(line);
  return message({
    event_name: meter,
    identifier: request,
    timestamp: at,
    payload: { stripe_customer_id: customer, value: units, region },
  });
}

async function dial() {
  const { NATS_URL, NATS_CREDS, NATS_INBOX_PREFIX } = process.env;
  const servers = (NATS_URL ?? "nats://127.0.0.1:4222").split(",");
  const connection = await connect({
    name: "usage producer",
    servers,
    maxReconnectAttempts: -1,
    ...login(servers[0]),
    ...(NATS_CREDS && { authenticator: credsAuthenticator(await readFile(NATS_CREDS)) }),
    ...(NATS_INBOX_PREFIX && { inboxPrefix: NATS_INBOX_PREFIX }),
  });
  watch(connection);
  return connection;
}

/** The user or the token of a URL, which this client leaves unread. */
function login(server) {
  const { username, password } = new URL(server.includes("://") ? server : `nats://${server}`);
  if (username === "") return {};
  return password === "" ? { token: decodeURIComponent(username) } : { user: decodeURIComponent(username), pass: decodeURIComponent(password) };
}

/** Prints what becomes of the connection, refused permissions included. */
async function watch(connection) {
  for await (const status of connection.status()) {
    if (status.type === "error" || status.type === "disconnect" || status.type === "reconnect") {
      console.error(`NATS: ${status.type} ${status.error?.message ?? status.server ?? ""}`);
    }
  }
}

async function reportLine(publisher, line) {
  const { sequence, duplicate } = await publisher.publish(messageOf(line));
  return duplicate ? `duplicate of sequence ${sequence}` : `stored sequence=${sequence} identifier=${JSON.parse(line).request}`;
}

/** Publishes the lines in turn. It goes on after a line that fails. */
async function report(publisher) {
  let number = 0;
  let failed = 0;
  for await (const line of createInterface({ input: process.stdin })) {
    number++;
    const result = await reportLine(publisher, line).catch((error) => {
      failed++;
      return `error: ${error.message}`;
    });
    console.log(`line ${number}: ${result}`);
  }
  if (failed > 0) {
    throw new Error(`${failed} of ${number} lines failed; run it again on the same log`);
  }
}

try {
  const connection = await dial();
  await report(new Publisher(connection)).finally(() => connection.close());
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
