"""Stories of WebSocket. usage: websocket_stories.py STORY URL [CA NAME] [ARGUMENTS]

The exit status is the verdict. Over HTTP/1.1 the client is that of the websockets
package; over HTTP/2 (RFC 8441) it is made of wsproto's frames on a stream.
"""

import inspect
import json
import os
import socket as sockets
import ssl
import sys
import threading
import time
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_socket
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage

import wire
from wire import Wire

HANG = 20
secure = []


def connect(url, **options):
    options = {"max_size": None, "open_timeout": HANG, "close_timeout": HANG, "proxy": None, **options}
    if secure:
        options["ssl"] = ssl.create_default_context(cafile=secure[0])
        options["server_hostname"] = secure[1]
    return open_socket(url, **options)


def echo(url):
    """Messages of every kind and size, with and without compression."""
    for compression in ("deflate", None):
        with connect(url + "/echo", compression=compression) as socket:
            for message in ("", "text", "ünïcödé 日本", b"", b"\0\xff", "x" * 125, "x" * 126, b"y" * 65535, b"z" * 65536):
                socket.send(message)
                assert socket.recv(HANG) == message, message[:50]
            big = os.urandom(20 << 20)
            socket.send(big)
            assert socket.recv(HANG) == big
            # In fragments, with a ping amid them.
            socket.send(["one ", "two ", "three"])
            assert socket.recv(HANG) == "one two three"
            assert socket.ping().wait(HANG)


def early(url):
    """What is sent before the answer to the handshake comes is not lost."""
    parts = urlsplit(url)
    raw = sockets.create_connection((parts.hostname, parts.port), HANG)
    raw.sendall(
        b"GET /echo HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        b"\x81\x85\0\0\0\0hello"
    )
    read = b""
    while b"hello" not in read:
        more = raw.recv(4096)
        assert more, read
        read += more
    assert read.startswith(b"HTTP/1.1 101 "), read
    assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in read and read.endswith(b"\x81\x05hello"), read
    for _ in range(3):
        raw.sendall(b"\x81\x84\x01\x02\x03\x04ucqp")
        got = b""
        while len(got) < 6:
            got += raw.recv(100)
        assert got == b"\x81\x04tart", got


def many(url):
    """Side by side, each its own."""
    failures = []

    def talk(number):
        try:
            with connect(url + "/echo") as socket:
                for n in range(200):
                    socket.send(f"{number}-{n}")
                    assert socket.recv(HANG) == f"{number}-{n}"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(20)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures, failures


def ends(url):
    """Closes pass with their codes, both ways."""
    with connect(url + "/close") as socket:
        socket.send("x")
        try:
            socket.recv(HANG)
            raise AssertionError("not closed")
        except ConnectionClosed as closed:
            assert (closed.rcvd.code, closed.rcvd.reason) == (4001, "enough"), closed
    with connect(url + "/echo") as socket:
        socket.close(4002, "my own")
        assert socket.close_code == 4002
    try:
        with connect(url + "/refuse"):
            raise AssertionError("not refused")
    except InvalidStatus as refusal:
        assert refusal.response.status_code == 403 and refusal.response.body == b"not for you\n", refusal
    # One that vanishes takes nobody along.
    with connect(url + "/echo") as other:
        with connect(url + "/echo") as gone:
            gone.socket.shutdown(sockets.SHUT_RDWR)
        for n in range(20):
            other.send(str(n))
            assert other.recv(HANG) == str(n)


def handshake(url):
    """What the handshake says arrives: subprotocol, origin, the query; nothing of the hop is doubled."""
    with connect(url + "/chat", subprotocols=["chat.v1", "chat.v2"]) as socket:
        assert socket.subprotocol == "chat.v2"
        socket.send("x")
        assert socket.recv(HANG) == "x"
    with connect(url + "/headers?a=%20b", origin="https://shop.test", additional_headers={"X-One": "1"}) as socket:
        path, *fields = json.loads(socket.recv(HANG))
    fields = [(name.lower(), value) for name, value in fields]
    names = [name for name, _ in fields]
    assert path == "/headers?a=%20b", path
    assert ("origin", "https://shop.test") in fields and ("x-one", "1") in fields, fields
    for name in ("upgrade", "connection", "host", "sec-websocket-key", "sec-websocket-version"):
        assert names.count(name) == 1, fields


def idle(url):
    """Silence is not the end."""
    with connect(url + "/echo") as socket:
        for _ in range(2):
            time.sleep(7)
            socket.send("still here")
            assert socket.recv(HANG) == "still here"


def stalled_reader(url):
    """200 MB for one who sleeps first; the test watches the proxy's memory."""
    with connect(url + "/down", compression=None, max_queue=4) as socket:
        socket.send("2000 100000")
        time.sleep(4)
        for number in range(2000):
            message = socket.recv(HANG)
            assert int.from_bytes(message[:4], "big") == number and len(message) == 100_000


def stalled_server(url):
    """200 MB to one who sleeps first."""
    with connect(url + "/sleepy", compression=None) as socket:
        for _ in range(2000):
            socket.send(bytes(100_000))
        socket.send("end")
        assert socket.recv(HANG) == str(2000 * 100_000)


def nowhere(url, status):
    try:
        with connect(url + "/echo"):
            raise AssertionError("not refused")
    except InvalidStatus as refusal:
        assert str(refusal.response.status_code) in status.split("/"), refusal


def held(url):
    """Open when the proxy is told to stop: closed in the end, not left hanging."""
    with connect(url + "/echo") as socket:
        socket.send("x")
        assert socket.recv(HANG) == "x"
        print("ready", flush=True)
        try:
            socket.recv(HANG)
            raise AssertionError("a message that nobody sent")
        except ConnectionClosed:
            pass


def dismissed(closed):
    """It was closed with a word, not cut."""
    assert closed.rcvd is not None, closed
    assert (closed.rcvd.code, closed.rcvd.reason) == (1001, "shutting down"), closed


def leaving(url):
    """Each is told that the proxy goes away, whatever it is in the middle of, and hears
    nothing but whole messages before that."""
    failures = []

    def quiet(socket):
        socket.recv(6 * HANG)
        raise AssertionError("a message that nobody sent")

    def talkative(socket):
        for n in range(10**9):
            socket.send(str(n))
            assert socket.recv(HANG) == str(n)

    def listening(socket):
        socket.send(f"{10**9} 300000")
        for n in range(10**9):
            message = socket.recv(HANG)
            assert int.from_bytes(message[:4], "big") == n and len(message) == 300_000

    def stay(part, socket):
        try:
            part(socket)
        except ConnectionClosed as closed:
            # What is sent meanwhile may meet the end first.
            try:
                dismissed(closed)
            except BaseException as error:
                failures.append((part.__name__, error))
        except BaseException as error:
            failures.append((part.__name__, error))

    parts = [(quiet, "/echo"), (quiet, "/echo"), (talkative, "/echo"), (listening, "/down")]
    sockets_ = [(part, connect(url + path, compression=None)) for part, path in parts]
    client = client_of(url)
    streams = [Streamed(client, "/echo") for _ in range(3)]
    streams[0].say(TextMessage(data="hello"))
    assert streams[0].hear() == "hello"
    threads = [threading.Thread(target=stay, args=pair) for pair in sockets_]
    [thread.start() for thread in threads]
    print("ready", flush=True)
    for stream in streams:
        event = stream.hear()
        assert isinstance(event, CloseConnection), event
        assert (event.code, event.reason) == (1001, "shutting down"), event
        client.until(lambda: stream.stream.ended)
    [thread.join() for thread in threads]
    assert not failures, failures


def version(url):
    """What the server was spoken to in."""
    with connect(url + "/echo") as socket:
        socket.send("version?")
        print(socket.recv(HANG))


# RFC 8441: WebSocket on a stream of HTTP/2.


class Streamed:
    """One WebSocket on a stream; its frames are wsproto's."""

    def __init__(self, client, path, more=()):
        self.client = client
        pseudo = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path)]
        fields = pseudo + [(":authority", "h2.test"), ("sec-websocket-version", "13"), *more]
        self.number = client.open(fields, end=False)
        self.stream = client.streams[self.number]
        client.until(lambda: self.stream.headers or self.stream.reset is not None)
        self.frames, self.events = Connection(ConnectionType.CLIENT), []

    def say(self, event):
        assert self.client.data(self.number, self.frames.send(event), end=False)

    def hear(self):
        """The next event; a message is put together."""
        while True:
            if self.stream.body:
                self.frames.receive_data(bytes(self.stream.body))
                self.stream.body.clear()
                self.events += self.frames.events()
            if self.events and not isinstance(self.events[0], (TextMessage, BytesMessage)):
                return self.events.pop(0)
            done = next((at for at, each in enumerate(self.events) if getattr(each, "message_finished", 0)), None)
            if done is not None:
                parts = [each.data for each in self.events[: done + 1]]
                self.events = self.events[done + 1 :]
                return parts[0][:0].join(parts)
            assert not self.stream.ended and self.client.turn(), self.stream


def client_of(url):
    parts = urlsplit(url)
    client = Wire(parts.port, tls=(secure[0], secure[1]) if secure else None)
    client.send(b"")
    client.until(lambda: client.settings and client.acks)
    assert client.settings.get(wire.ENABLE_CONNECT_PROTOCOL) == 1, client.settings
    return client


def streamed(url):
    client = client_of(url)
    socket = Streamed(client, "/echo")
    assert socket.stream.status == "200", socket.stream
    names = ("upgrade", "connection", "sec-websocket-accept", "transfer-encoding")
    assert not any(name in socket.stream.headers for name in names), socket.stream
    for message in ("", "text", "ünïcödé", "x" * 70_000):
        socket.say(TextMessage(data=message))
        assert socket.hear() == message, message[:50]
    for data in (b"\0\xff", os.urandom(3 << 20)):
        socket.say(BytesMessage(data=data))
        assert socket.hear() == data
    # A ping is answered by the server, not by anybody between.
    socket.say(Ping(payload=b"ping"))
    pong = socket.hear()
    assert isinstance(pong, Pong) and bytes(pong.payload) == b"ping", pong
    # Others beside it on the connection.
    others = [Streamed(client, "/echo") for _ in range(10)]
    for round_ in range(20):
        for number, other in enumerate(others):
            other.say(TextMessage(data=f"{number}-{round_}"))
    for round_ in range(20):
        for number, other in enumerate(others):
            assert other.hear() == f"{number}-{round_}"
    socket.say(CloseConnection(code=1000, reason="done"))
    answer = socket.hear()
    assert isinstance(answer, CloseConnection) and answer.code == 1000, answer
    # One that is reset ends alone.
    client.reset(others[0].number)
    others[1].say(TextMessage(data="still here"))
    assert others[1].hear() == "still here"
    assert client.goaway is None


def streamed_subprotocol(url):
    client = client_of(url)
    socket = Streamed(client, "/chat", [("sec-websocket-protocol", "chat.v1, chat.v2")])
    assert socket.stream.status == "200", socket.stream
    assert socket.stream.headers["sec-websocket-protocol"] == "chat.v2", socket.stream
    refused = Streamed(client, "/refuse")
    assert refused.stream.status == "403", refused.stream
    socket.say(TextMessage(data="x"))
    assert socket.hear() == "x"


def streamed_version(url):
    socket = Streamed(client_of(url), "/echo")
    socket.say(TextMessage(data="version?"))
    print(socket.hear())


def streamed_refusals(url):
    """CONNECTs that are none end their stream, no more."""
    client = client_of(url)
    whole = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/echo"), (":authority", "a")]
    without = lambda name: [field for field in whole if field[0] != name]
    cases = [
        without(":path"),
        without(":scheme"),
        [(":method", "GET")] + without(":method"),
        [(":protocol", "websocket")] + whole,
        [(":method", "CONNECT"), (":protocol", "no-such"), *whole[2:]],
        [(":method", "CONNECT"), (":authority", "a:80")],
    ]
    for fields in cases:
        stream = client.streams[client.open(fields, end=False)]
        client.until(lambda: stream.reset is not None or stream.ended or stream.headers)
        assert stream.reset is not None or stream.status[0] in "45", (fields, stream)
        if client.goaway:
            client = client_of(url)
    socket = Streamed(client, "/echo")
    socket.say(TextMessage(data="x"))
    assert socket.hear() == "x"


def main():
    story, url, *rest = sys.argv[1:]
    tell = globals()[story]
    assert inspect.isfunction(tell), story
    if url.startswith("wss:"):
        secure.extend(rest[:2])
        rest = rest[2:]
    tell(url, *rest)


main()
