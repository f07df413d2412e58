"""/usr/local/share/app/app.py: says who answers. With ?delay=3000ms it takes three seconds to send it all; to a
WebSocket it says so after every message."""

import asyncio
import os
import re

ANSWER = "generation 1"
PARTS = 10


def who():
    return f"pid {os.getpid()} {ANSWER}\n"


async def app(scope, receive, send):
    if scope["type"] == "http":
        await http(scope, send)
    elif scope["type"] == "websocket":
        await websocket(receive, send)
    else:
        await lifespan(receive, send)


async def http(scope, send):
    body = who().encode()
    delay = re.search(rb"delay=(\d+)ms", scope["query_string"])
    parts = PARTS if delay else 1
    length = str(len(body) * parts).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in range(parts):
        if delay:
            await asyncio.sleep(int(delay[1]) / 1000 / parts)
        more = part + 1 < parts
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": who()})


async def lifespan(receive, send):
    for stage in ["startup", "shutdown"]:
        await receive()
        await send({"type": f"lifespan.{stage}.complete"})
