"""The errors of nats-py that the example tells apart."""

import asyncio


class Error(Exception):
    pass


class TimeoutError(asyncio.TimeoutError):
    def __str__(self):
        return "nats: timeout"


class ConnectionClosedError(Error):
    pass


class ConnectionDrainingError(Error):
    pass


class MaxPayloadError(Error):
    pass
