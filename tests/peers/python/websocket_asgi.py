"""WebSockets over HTTP/1.1 and, by RFC 8441, over HTTP/2, served by hypercorn.

usage: websocket_asgi.py PORT [CERT KEY]
"""

import asyncio
import sys

from hypercorn.asyncio import serve
from hypercorn.config import Config


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"HTTP/{scope['http_version']}\n".encode()})
        return
    await receive()
    if scope["path"] == "/refuse":
        await send({"type": "websocket.close"})
        return
    subprotocol = "chat.v2" if "chat.v2" in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        if message.get("text") == "version?":
            await send({"type": "websocket.send", "text": scope["http_version"]})
        elif message.get("text") is not None:
            await send({"type": "websocket.send", "text": message["text"]})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def main():
    config = Config()
    config.bind = [f"127.0.0.1:{sys.argv[1]}"]
    if sys.argv[2:]:
        config.certfile, config.keyfile = sys.argv[2:]
    config.websocket_max_message_size = 64 << 20
    config.loglevel = "WARNING"
    task = asyncio.create_task(serve(application, config))
    await asyncio.sleep(0.3)
    print("ready", flush=True)
    await task


asyncio.run(main())
