"""Answers for the tests what examples/python/usage_event.py makes of bodies and texts: one
JSON object a line in, one out. Its argument is the folder of the example."""

import base64
import json
import sys
import traceback

sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True

from usage_event import Refusal, encode_token, message  # noqa: E402


def constant(name):
    raise ValueError(f"{name} is no JSON")


def answer(question):
    if "token" in question:
        return {"token": encode_token(question["token"])}
    try:
        event = json.loads(base64.b64decode(question["body"]).decode(), parse_constant=constant)
    except (ValueError, RecursionError):
        return {"reason": "undecodable"}
    try:
        subject, body, id = message(event, question["now"])
        return {"subject": subject, "id": id, "body": base64.b64encode(body).decode()}
    except Refusal as refusal:
        return {"reason": refusal.reason}
    except Exception:
        return {"reason": f"crash: {traceback.format_exc()}"}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))))
