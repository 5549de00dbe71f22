"""A stand-in for nats-py, which cannot be installed where the tests run: the few calls that
the example for Python makes, with the names and errors of nats-py, to a real NATS server."""

import asyncio
import itertools
import json
from types import SimpleNamespace
from urllib.parse import urlsplit

from nats import errors
from nats.js import errors as js_errors


async def connect(servers, name, max_reconnect_attempts, error_cb, inbox_prefix="_INBOX"):
    url = urlsplit(servers[0])
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    await reader.readline()  # INFO
    login = {"user": url.username, "pass": url.password} if url.username else {}
    client = Client(reader, writer, error_cb, f"{inbox_prefix}.py")
    client.write("CONNECT " + json.dumps({"verbose": False, "headers": True, "no_responders": True, "name": name, **login}))
    client.write(f"SUB {client.inbox}.* 1")
    return client


class Client:
    def __init__(self, reader, writer, error_cb, inbox):
        self.reader, self.writer, self.error_cb, self.inbox = reader, writer, error_cb, inbox
        self.numbers, self.waiting, self.last_error = itertools.count(1), {}, None
        self.task = asyncio.ensure_future(self.read())

    def write(self, line, payload=None):
        self.writer.write(line.encode() + b"\r\n" + (b"" if payload is None else payload + b"\r\n"))

    def jetstream(self):
        return SimpleNamespace(publish=self.publish)

    async def publish(self, subject, payload, timeout, headers):
        reply = f"{self.inbox}.{next(self.numbers)}"
        self.waiting[reply] = asyncio.get_running_loop().create_future()
        block = "".join(["NATS/1.0\r\n", *(f"{key}: {value}\r\n" for key, value in headers.items()), "\r\n"]).encode()
        self.write(f"HPUB {subject} {reply} {len(block)} {len(block) + len(payload)}", block + payload)
        try:
            status, body = await asyncio.wait_for(self.waiting[reply], timeout)
        except asyncio.TimeoutError:
            raise errors.TimeoutError from None
        if b" 503" in status:
            raise js_errors.NoStreamResponseError
        answer = json.loads(body)
        if "error" in answer:
            raise js_errors.APIError(**answer["error"])
        return SimpleNamespace(seq=answer["seq"], duplicate=answer.get("duplicate"))

    async def read(self):
        while line := await self.reader.readline():
            verb, *words = line.decode().split()
            if verb == "PING":
                self.write("PONG")
            elif verb == "-ERR":
                self.last_error = errors.Error("nats: " + line.decode().strip().lower())
                await self.error_cb(self.last_error)
            elif verb in ("MSG", "HMSG"):
                head = int(words[-2]) if verb == "HMSG" else 0
                content = await self.reader.readexactly(int(words[-1]) + 2)
                waiting = self.waiting.pop(words[0])
                if not waiting.done():
                    waiting.set_result((content[:head], content[head:-2]))

    async def close(self):
        self.task.cancel()
        self.writer.close()
