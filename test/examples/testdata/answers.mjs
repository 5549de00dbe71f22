// Answers for the tests what examples/node/event.js makes of bodies and texts: one JSON object
// a line in, one out. Its argument is the folder of the example.

import { createInterface } from "node:readline";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const { encodeToken, message } = await import(pathToFileURL(join(process.argv[2], "event.js")));

function read(body) {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  return JSON.parse(text);
}

function answer({ token, body, now }) {
  if (token !== undefined) {
    return { token: encodeToken(token) };
  }
  let event;
  try {
    event = read(Buffer.from(body, "base64"));
  } catch {
    return { reason: "undecodable" };
  }
  try {
    const { subject, body, id } = message(event, now * 1000);
    return { subject, id, body: body.toString("base64") };
  } catch (error) {
    return { reason: error.reason ?? `crash: ${error.stack}` };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(answer(JSON.parse(line))));
}
