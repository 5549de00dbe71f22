"""The errors of nats-py for JetStream that the example tells apart."""

import nats.errors


class Error(nats.errors.Error):
    pass


class APIError(Error):
    def __init__(self, code=None, description=None, err_code=None):
        self.code, self.description, self.err_code = code, description, err_code

    def __str__(self):
        return f"nats: APIError: code={self.code} err_code={self.err_code} description='{self.description}'"


class NoStreamResponseError(Error):
    def __str__(self):
        return "nats: no response from stream"
