"""A WebSocket server of the websockets package. usage: websocket_server.py PORT [CERT KEY]

    /echo     each message back, as it was
    /down     "COUNT SIZE": so many messages of that size
    /sleepy   reads nothing for four seconds, then says how many bytes came until "end"
    /close    closes with 4001 "enough" after the first message
    /headers  the request's headers as JSON, then closes
    /chat     speaks the subprotocol `chat.v2`
    /refuse   403
"""

import asyncio
import http
import json
import ssl
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

port, *secure = sys.argv[1:]


async def talk(socket):
    path = socket.request.path.split("?")[0]
    try:
        if path in ("/echo", "/chat"):
            async for message in socket:
                await socket.send(message)
        elif path == "/down":
            count, size = map(int, (await socket.recv()).split())
            for number in range(count):
                await socket.send(number.to_bytes(4, "big") + bytes(size - 4))
        elif path == "/sleepy":
            await asyncio.sleep(4)
            total = 0
            while (message := await socket.recv()) != "end":
                total += len(message)
            await socket.send(str(total))
        elif path == "/close":
            await socket.recv()
            await socket.close(4001, "enough")
        elif path == "/headers":
            await socket.send(json.dumps([socket.request.path, *socket.request.headers.raw_items()]))
    except ConnectionClosed:
        pass


def refuse(socket, request):
    if request.path == "/refuse":
        return socket.respond(http.HTTPStatus.FORBIDDEN, "not for you\n")


def select(socket, offered):
    return "chat.v2" if "chat.v2" in offered else None


async def main():
    context = None
    if secure:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*secure)
    async with serve(
        talk, "127.0.0.1", int(port), ssl=context, process_request=refuse, select_subprotocol=select,
        max_size=None, compression="deflate", ping_interval=None,
    ) as server:
        print("ready", flush=True)
        await server.serve_forever()


asyncio.run(main())
