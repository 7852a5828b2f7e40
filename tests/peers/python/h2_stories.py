"""Stories of HTTP/2, frame by frame. usage: h2_stories.py STORY PORT [ARGUMENTS]

The exit status is the verdict. The server behind is http-server.js; most stories
hold on a direct connection to it, told to speak HTTP/2.
"""

import inspect
import json
import os
import struct
import sys
import time

import wire
from wire import Wire, frame

DIRECT = os.environ.get("POLYPORT_TESTS_DIRECT") == "1"
MEGABYTE = 1 << 20


def frames(port):
    """What is legal, however odd: padding, priorities, split header blocks, unknown frames."""
    client = Wire(port, {wire.ENABLE_PUSH: 0})
    client.send(frame(wire.PING, 0, 0, b"12345678"))
    assert client.ask("/length?n=3").body == b"xxx"
    client.until(lambda: client.pongs)
    assert client.pongs == [b"12345678"] and client.acks == 1 and client.settings
    # Frames and settings that nobody knows are ignored, wherever they come.
    client.send(frame(0xEE, 0xFF, 0, b"anything") + wire.settings({0xFACE: 7}))
    number = client.start("/headers", "POST", end=False)
    client.send(frame(0xEE, 0xFF, number, b"anything"))
    client.send(frame(wire.PRIORITY, 0, number, struct.pack(">IB", 0, 10)))
    client.send(frame(wire.PRIORITY, 0, number + 100, struct.pack(">IB", number, 10)))
    client.send(frame(wire.DATA, wire.PADDED, number, b"\x05bo" + bytes(5)))
    client.send(frame(wire.DATA, 0, number, b""))
    client.send(frame(wire.DATA, wire.PADDED | wire.END_STREAM, number, b"\x00dy"))
    assert json.loads(client.finish(number).body)["body"] == "body"
    # A header block in pieces, one of them empty, with padding and a priority.
    fields = [(":method", "GET"), (":scheme", "http"), (":path", "/headers"), (":authority", "a")]
    block = client.encoder.encode(fields + [("x-long", "v" * 5000)], huffman=False)
    number, client.next = client.next, client.next + 2
    client.streams[number] = wire.Stream(client.initial)
    flags = wire.END_STREAM | wire.PADDED | wire.PRIORITISED
    client.send(frame(wire.HEADERS, flags, number, b"\x03" + bytes(5) + block[:1] + bytes(3)))
    client.send(frame(wire.CONTINUATION, 0, number, b""))
    for at in range(1, len(block), 2000):
        last = wire.END_HEADERS if at + 2000 >= len(block) else 0
        client.send(frame(wire.CONTINUATION, last, number, block[at : at + 2000]))
    assert json.loads(client.finish(number).body)["headers"]["x-long"] == "v" * 5000
    # The dynamic table, on both sides: the same again costs next to nothing.
    for round_ in range(50):
        more = [("x-repeated", "value" * 20), ("x-new", str(round_))]
        told = json.loads(client.ask("/headers", more=more).body)["headers"]
        assert told["x-repeated"] == "value" * 20 and told["x-new"] == str(round_)
    client.encoder.header_table_size = 0
    assert client.ask("/length?n=1", more=[("x-repeated", "value" * 20)]).body == b"x"
    assert client.goaway is None


def many(port):
    """Streams at once, each with its own answer, the slow ones behind the others."""
    client = Wire(port, {wire.INITIAL_WINDOW_SIZE: MEGABYTE})
    assert client.ask("/length?n=1").body == b"x"
    # What the server does not bound, this does.
    limit = min(client.settings.get(wire.MAX_CONCURRENT_STREAMS, 1000), 100)
    assert limit >= 100, client.settings
    for _ in range(5):
        slow = client.start("/slow?ms=300")
        begun = time.time()
        wanted = {client.start(f"/length?n={n}"): n for n in range(1, limit)}
        posted = None
        for number, n in wanted.items():
            reply = client.finish(number)
            assert reply.status == "200" and reply.body == b"x" * n, (n, reply)
        assert time.time() - begun < 5 and posted is None
        assert client.finish(slow).body == b"slow"


def bodies(port):
    """Uploads and downloads of all sizes, interleaved, beyond every window."""
    client = Wire(port)
    for size in (0, 1, 16383, 16384, 16385, 65535, 65536, 300_000):
        body = bytes(n % 251 for n in range(size))
        reply = client.ask("/echo", "POST", body=body)
        assert reply.status == "200" and reply.body == body, size
    sizes = [100_000 + 7 * n for n in range(8)]
    numbers = [client.start("/echo", "POST", end=False) for _ in sizes]
    # Turn by turn, a frame of each.
    left = {number: size for number, size in zip(numbers, sizes)}
    while left:
        for number in list(left):
            part = min(left[number], 9000)
            client.data(number, bytes([number % 256]) * part, end=part == left[number])
            left[number] -= part
            if not left[number]:
                del left[number]
    for number, size in zip(numbers, sizes):
        assert client.finish(number).body == bytes([number % 256]) * size


def trailers(port):
    client = Wire(port)
    for _ in range(3):
        reply = client.ask("/echo", "POST", body=b"abcdefg", more=[("te", "trailers")], trailers=[("x-sum", "42")])
        assert reply.status == "200" and reply.body == b"abcdefg", reply
        assert reply.trailers == {"x-length": "7", "x-echo-x-sum": "42"}, reply
        # Without a body at all they follow the head.
        number = client.start("/echo", "POST", end=False)
        client.send(client.headers(number, [("x-sum", "0")]))
        reply = client.finish(number)
        assert reply.trailers == {"x-length": "0", "x-echo-x-sum": "0"}, reply


def fields(port):
    """Header fields between the versions: crumbs of cookies, hosts, what is per hop."""
    client = Wire(port)
    more = [("cookie", "a=1"), ("x-one", "1"), ("cookie", "b=2"), ("cookie", "c=3"), ("x-one", "2")]
    told = json.loads(client.ask("/headers", more=more, host="shop.test:8080").body)
    assert told["headers"]["cookie"] == "a=1; b=2; c=3", told
    assert told["headers"]["x-one"] == "1, 2", told
    host = told["headers"].get("host") or told["headers"].get(":authority")
    assert host == "shop.test:8080", told
    # Of a client that names its host the old way.
    number = client.open([(":method", "GET"), (":scheme", "http"), (":path", "/headers"), ("host", "old.test")])
    told = json.loads(client.finish(number).body)["headers"]
    assert (told.get("host") or told.get(":authority")) == "old.test", told
    # `te: trailers` alone may pass; nothing of the connection comes back.
    reply = client.ask("/length?n=3", more=[("te", "trailers")])
    assert reply.headers["content-length"] == "3", reply
    for name in ("connection", "keep-alive", "transfer-encoding", "upgrade", "proxy-connection"):
        assert name not in reply.headers, reply
    # Methods without bodies, bodies without lengths.
    reply = client.ask("/length?n=5", "HEAD")
    assert reply.status == "200" and reply.headers["content-length"] == "5" and not reply.body, reply
    told = json.loads(client.ask("/headers", "DELETE").body)
    assert told["method"] == "DELETE" and told["body"] == "", told
    told = json.loads(client.ask("/headers", "PATCH", body=b"p").body)
    assert told["method"] == "PATCH" and told["body"] == "p", told


def interim(port):
    client = Wire(port)
    reply = client.ask("/early")
    assert [each[":status"] for each in reply.interim] == ["103"] and reply.body == b"early", reply
    assert "style.css" in reply.interim[0]["link"], reply
    number = client.start("/headers", "POST", [("expect", "100-continue"), ("content-length", "4")], end=False)
    stream = client.streams[number]
    client.until(lambda: stream.interim)
    assert stream.interim[0][":status"] == "100"
    client.data(number, b"body")
    assert json.loads(client.finish(number).body)["body"] == "body"


def given_up(port):
    """A request that its client gives up ends upstream too, and disturbs nobody."""
    client = Wire(port)
    before = int(client.ask("/aborted").body)
    for _ in range(10):
        doomed = client.start("/slow?ms=20000")
        other = client.start("/slow?ms=50")
        client.turn()
        # By then the server has both.
        assert client.finish(other).body == b"slow"
        client.reset(doomed)
        # One whose body is on its way, one whose body is still to come.
        doomed = client.start("/length?n=1000000")
        stream = client.streams[doomed]
        client.until(lambda: stream.body)
        client.reset(doomed)
        doomed = client.start("/echo", "POST", end=False)
        client.data(doomed, b"x" * 1000, end=False)
        time.sleep(0.05)
        client.reset(doomed)
        assert client.ask("/length?n=4").body == b"xxxx"
    deadline = time.time() + 10
    # Some were given up before they had left, or when all of the answer was on its way.
    while int(client.ask("/aborted").body) < before + 10:
        assert time.time() < deadline, "the server was not told"
        time.sleep(0.1)
    # All that was thrown away has left the connection's window as it was.
    assert len(client.ask("/length?n=3000000").body) == 3_000_000
    assert client.goaway is None


def torn(port):
    """A reply that breaks off is never taken for a whole one; others go on."""
    client = Wire(port)
    for n in (0, 1, 100, 100_000):
        other = client.start("/slow?ms=200")
        reply = client.ask(f"/cut?n={n}")
        assert not reply.ended and reply.reset is not None or reply.status in ("502", "503"), reply
        assert client.finish(other).body == b"slow", n
        assert client.ask("/length?n=2").body == b"xx"


def stalled(port):
    """Streams whose windows are shut hold up neither the others nor themselves for good."""
    client = Wire(port, {wire.INITIAL_WINDOW_SIZE: 1000}, hold=True)
    client.open_window(0, 64 * MEGABYTE)
    numbers = [client.start("/length?n=200000") for _ in range(20)]
    for number in numbers:
        stream = client.streams[number]
        client.until(lambda: len(stream.body) == 1000)
    for _ in range(20):
        number = client.start("/length?n=900")
        assert len(client.finish(number).body) == 900
    for number in numbers:
        assert len(client.streams[number].body) == 1000
        client.open_window(number, 10_000)
    for number in numbers:
        stream = client.streams[number]
        client.until(lambda: len(stream.body) == 11_000)
        client.open_window(number, 1_000_000)
    for number in numbers:
        assert client.finish(number).body == b"x" * 200_000
    # The connection's own window, shut and opened by a crack at a time.
    client = Wire(port, {wire.INITIAL_WINDOW_SIZE: MEGABYTE}, hold=True)
    stream = client.streams[client.start("/length?n=70000")]
    client.until(lambda: len(stream.body) == 65535)
    client.send(frame(wire.PING, 0, 0, b"answered"))
    client.until(lambda: client.pongs)
    for _ in range(5):
        had = len(stream.body)
        client.open_window(0, 100)
        client.until(lambda: len(stream.body) == had + 100)
    client.open_window(0, 10_000)
    client.until(lambda: stream.ended)
    # The initial window may shrink below what has been sent already, and grow again.
    client = Wire(port, {wire.INITIAL_WINDOW_SIZE: 30_000}, hold=True)
    stream = client.streams[client.start("/length?n=50000")]
    client.until(lambda: len(stream.body) == 30_000)
    client.send(wire.settings({wire.INITIAL_WINDOW_SIZE: 10_000}))
    client.until(lambda: client.acks == 2)
    client.open_window(1, 15_000)
    client.send(frame(wire.PING, 0, 0, b"answered"))
    client.until(lambda: client.pongs)
    assert len(stream.body) == 30_000, len(stream.body)
    client.send(wire.settings({wire.INITIAL_WINDOW_SIZE: 40_000}))
    client.until(lambda: stream.ended)
    assert len(stream.body) == 50_000


def hoarded(port, path):
    """Downloads that nobody reads: the test watches what the proxy keeps of them."""
    client = Wire(port, {wire.INITIAL_WINDOW_SIZE: MEGABYTE}, hold=True)
    numbers = [client.start(path) for _ in range(20)]
    streams = [client.streams[number] for number in numbers]
    client.until(lambda: sum(len(stream.body) for stream in streams) >= 65535)
    time.sleep(3)
    client.open_window(0, 20 * MEGABYTE)
    client.until(lambda: sum(len(stream.body) for stream in streams) >= 10 * MEGABYTE)
    time.sleep(1)


def swallowed(port):
    """Uploads that the server does not read end at the windows, not in memory."""
    client = Wire(port)
    numbers = [client.start("/stall", "POST", end=False) for _ in range(20)]
    client.ask("/length?n=1")
    sent, deadline = 0, time.time() + 3
    client.socket.settimeout(0.2)
    while time.time() < deadline:
        for number in numbers:
            stream = client.streams[number]
            room = min(stream.window, client.window, 16384)
            if room > 0:
                stream.window -= room
                client.window -= room
                sent += room
                assert client.send(frame(wire.DATA, 0, number, bytes(room)))
        try:
            client.turn()
        except TimeoutError:
            pass
    print(sent)
    client.socket.settimeout(wire.HANG)
    # What the system holds for twenty connections is not the proxy's.
    assert sent < 256 * MEGABYTE, sent
    for number in numbers:
        client.reset(number)
    assert client.ask("/length?n=2").body == b"xx"


def last(port):
    """Servers that say GOAWAY after a reply cost nobody an answer."""
    client = Wire(port)
    for _ in range(30):
        numbers = [client.start("/last")] + [client.start(f"/length?n={n}") for n in range(1, 20)]
        assert client.finish(numbers[0]).body == b"last"
        for n, number in enumerate(numbers[1:], 1):
            assert client.finish(number).body == b"x" * n, client.streams[number]


def draining(port):
    """SIGTERM: GOAWAY, what is in flight is answered, the connection ends."""
    client = Wire(port)
    assert client.ask("/length?n=1").body == b"x"
    number = client.start("/slow?ms=2500")
    print("ready", flush=True)
    client.until(lambda: client.goaway)
    assert client.goaway[:2] == (0x7FFFFFFF, 0) or client.goaway[1] == 0, client.goaway
    assert client.finish(number).body == b"slow"
    client.drain()
    assert client.goaway[0] >= number and client.goaway[1] == 0, client.goaway


GET = [(":method", "GET"), (":scheme", "http"), (":path", "/length?n=7"), (":authority", "h2.test")]
POST = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "h2.test")]


def without(fields_, name):
    return [field for field in fields_ if field[0] != name]


def instead(fields_, name, value):
    return [(each, value if each == name else old) for each, old in fields_]


def malformed():
    return {
        "upper case": GET + [("X-Upper", "1")],
        "a blank in a name": GET + [("x a", "1")],
        "a colon in a name": GET + [("x:a", "1")],
        "an empty name": GET + [("", "1")],
        "CRLF in a name": GET + [("x-a: 1\r\nx-b", "1")],
        "CRLF in a value": GET + [("x-a", "1\r\nx-smuggled: 1")],
        "LF in a value": GET + [("x-a", "1\nx-smuggled: 1")],
        "CR in a value": GET + [("x-a", "1\rx-smuggled: 1")],
        "NUL in a value": GET + [("x-a", "1\0")],
        "blanks around a value": GET + [("x-a", " 1")],
        "connection": GET + [("connection", "close")],
        "keep-alive": GET + [("keep-alive", "timeout=5")],
        "transfer-encoding": POST + [("transfer-encoding", "chunked")],
        "upgrade": GET + [("upgrade", "websocket")],
        "proxy-connection": GET + [("proxy-connection", "close")],
        "te": GET + [("te", "gzip")],
        "no method": without(GET, ":method"),
        "no path": without(GET, ":path"),
        "no scheme": without(GET, ":scheme"),
        "an empty path": instead(GET, ":path", ""),
        "a path that is none": instead(GET, ":path", "length"),
        "two methods": [(":method", "GET")] + GET,
        "two paths": GET + [(":path", "/length?n=8")],
        "a pseudo-field behind": without(GET, ":path") + [("x-a", "1"), (":path", "/length?n=7")],
        "an unknown pseudo-field": [(":unknown", "1")] + GET,
        "a pseudo-field of replies": [(":status", "200")] + GET,
        "a blank in the path": instead(GET, ":path", "/length?n=7 HTTP/1.1"),
        "CRLF in the path": instead(GET, ":path", "/smuggled HTTP/1.1\r\nHost: a\r\n\r\nGET /smuggled"),
        "a blank in the method": instead(GET, ":method", "GET /smuggled HTTP/1.1\r\nX:"),
        "CRLF in the host": instead(GET, ":authority", "a\r\nx-smuggled: 1"),
        "a user in the host": instead(GET, ":authority", "user@h2.test"),
        "another host": GET + [("host", "other.test")],
        "two lengths": POST + [("content-length", "3"), ("content-length", "4")],
        "a length that is none": POST + [("content-length", "three")],
        "a signed length": POST + [("content-length", "+3")],
    }


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"


def smuggled(port):
    """Whatever becomes of these, no second request comes out of one. The test reads the server's log."""
    client = Wire(port)
    post = [(":method", "POST"), (":scheme", "http"), (":path", "/up/x"), (":authority", "h2.test")]
    bodies_ = [
        post + [("content-length", "3")],
        post + [("content-length", "0")],
        post + [("content-length", "3"), ("content-length", str(len(SMUGGLED)))],
        post + [("transfer-encoding", "chunked")],
        post + [("transfer-encoding", "chunked"), ("content-length", "3")],
        instead(post, ":method", "GET"),
        instead(post, ":method", "HEAD"),
        post,
    ]
    for fields_ in list(malformed().values()) + bodies_:
        if client.goaway or client.closed:
            client = Wire(port)
        number = client.open(fields_, end=fields_ not in bodies_)
        if fields_ in bodies_:
            client.data(number, SMUGGLED)
        client.finish(number)
    assert Wire(port).ask("/index.html").body == b"hello\n"


def refused(port):
    """Requests that RFC 9113 calls malformed end their stream, and only that."""
    client, taken = Wire(port), []
    for what, fields_ in malformed().items():
        if client.goaway:
            client = Wire(port)
        reply = client.finish(client.open(fields_))
        bad = reply.reset is not None or reply.status in ("400", "501")
        if not bad and not (client.goaway and client.goaway[1]):
            taken.append((what, reply))
        # Only compression that broke, or a flood of these, is the connection's concern.
        if not client.goaway:
            assert client.ask("/length?n=2").body == b"xx", what
    # nghttp2 drops fields that are none, and takes the rest.
    assert not taken or DIRECT, taken
    # Bodies that are not as long as they say.
    for length in ("3", "1000", "0"):
        client = Wire(port)
        number = client.open(POST + [("content-length", length)], end=False)
        client.data(number, SMUGGLED)
        reply = client.finish(number)
        bad = reply.reset is not None or reply.status == "400"
        assert bad or client.goaway and client.goaway[1], (length, reply)
        if not client.goaway:
            assert client.ask("/length?n=2").body == b"xx", length
    # Trailers that are none.
    for fields_ in ([(":path", "/")], [("content-length", "5")], [("x-a", "1\r\nx-b: 2")], [("transfer-encoding", "chunked")]):
        client = Wire(port)
        number = client.start("/echo", "POST", end=False)
        client.data(number, b"body", end=False)
        client.send(client.headers(number, fields_))
        reply = client.finish(number)
        seen = dict(reply.trailers or {})
        assert not any("content-length" in name or "x-b" in name or "encoding" in name for name in seen), reply


def broken(port):
    """What breaks the connection's own rules ends the connection, by its code."""
    protocol, flow, size, compression, closed = {1}, {3}, {6}, {9}, {5, 1}
    head = Wire(port, preface=False)
    get = head.encoder.encode(GET)
    start = frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, 1, get)
    half = frame(wire.HEADERS, wire.END_HEADERS, 1, get)
    cases = {
        "DATA on stream 0": (frame(wire.DATA, 0, 0, b"x"), protocol),
        "HEADERS on stream 0": (frame(wire.HEADERS, wire.END_HEADERS, 0, get), protocol),
        "SETTINGS on a stream": (frame(wire.SETTINGS, 0, 1), protocol),
        "PING on a stream": (frame(wire.PING, 0, 1, bytes(8)), protocol),
        "GOAWAY on a stream": (frame(wire.GOAWAY, 0, 1, bytes(8)), protocol),
        "an even stream": (frame(wire.HEADERS, wire.END_HEADERS, 2, get), protocol),
        "PUSH_PROMISE": (half + frame(wire.PUSH_PROMISE, wire.END_HEADERS, 1, bytes([0, 0, 0, 2]) + get), protocol),
        "DATA before its HEADERS": (frame(wire.DATA, 0, 5, b"x"), closed),
        "RST_STREAM before its HEADERS": (frame(wire.RST_STREAM, 0, 5, bytes(4)), protocol),
        "CONTINUATION from nowhere": (frame(wire.CONTINUATION, wire.END_HEADERS, 1, get), protocol),
        "a frame amid a header block": (
            frame(wire.HEADERS, 0, 1, get) + frame(wire.PING, 0, 0, bytes(8)), protocol),
        "another stream's CONTINUATION": (
            frame(wire.HEADERS, 0, 1, get) + frame(wire.CONTINUATION, wire.END_HEADERS, 3, b""), protocol),
        "more padding than frame": (frame(wire.HEADERS, wire.PADDED | wire.END_HEADERS, 1, b"\xff" + get), protocol),
        "SETTINGS of 5 bytes": (frame(wire.SETTINGS, 0, 0, bytes(5)), size),
        "an ACK with content": (frame(wire.SETTINGS, wire.ACK, 0, bytes(6)), size),
        "PING of 7 bytes": (frame(wire.PING, 0, 0, bytes(7)), size),
        "WINDOW_UPDATE of 3 bytes": (frame(wire.WINDOW_UPDATE, 0, 0, bytes(3)), size),
        "RST_STREAM of 3 bytes": (half + frame(wire.RST_STREAM, 0, 1, bytes(3)), size),
        "a frame too large": (half + frame(wire.DATA, 0, 1, bytes(16385)), size),
        "a frame far too large": (b"\xff\xff\xff\x00\x00\x00\x00\x00\x01", size),
        "WINDOW_UPDATE of 0": (frame(wire.WINDOW_UPDATE, 0, 0, bytes(4)), protocol),
        "a window too large": (frame(wire.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), flow),
        "an initial window too large": (wire.settings({wire.INITIAL_WINDOW_SIZE: 1 << 31}), flow),
        "a frame size too small": (wire.settings({wire.MAX_FRAME_SIZE: 16383}), protocol),
        "ENABLE_PUSH of 2": (wire.settings({wire.ENABLE_PUSH: 2}), protocol),
        "an index that is not there": (frame(wire.HEADERS, wire.END_HEADERS, 1, b"\xfe"), compression),
        "a table too large": (frame(wire.HEADERS, wire.END_HEADERS, 1, b"\x3f\xe1\xff\xff\x03" + get), compression),
        "a string cut short": (frame(wire.HEADERS, wire.END_HEADERS, 1, b"\x40\x7fabc"), compression),
        "an integer without end": (frame(wire.HEADERS, wire.END_HEADERS, 1, b"\xff" + b"\xff" * 50), compression),
        "DATA behind the end": (start + frame(wire.DATA, 0, 1, b"x"), closed),
    }
    # nghttp2 is milder here.
    spared, wrong = {"DATA behind the end"} if DIRECT else set(), []
    for what, (bytes_, codes) in cases.items():
        if what in spared:
            continue
        client = Wire(port)
        client.send(bytes_)
        client.streams[1] = wire.Stream(0)
        if what == "DATA behind the end":
            # A stream error suffices, or to ignore it: the answer may have been on its way.
            assert Wire(port).ask("/length?n=2").body == b"xx", what
            continue
        try:
            while not client.goaway and client.turn():
                pass
            if not DIRECT:
                client.drain()
        except TimeoutError:
            wrong.append((what, "it does not end", client.goaway))
            continue
        # PROTOCOL_ERROR may stand for any other (RFC 9113, 7); node has codes of its own.
        code = client.goaway and client.goaway[1]
        if not code or code not in codes | protocol and not DIRECT:
            wrong.append((what, codes, client.goaway))
        assert Wire(port).ask("/length?n=2").body == b"xx", what
    assert not wrong, wrong


def overdrawn(port):
    """A client that sends more than the windows allow is stopped."""
    client = Wire(port)
    number = client.start("/stall", "POST", end=False)
    client.ask("/length?n=1")
    for _ in range(64 * MEGABYTE // 16384):
        if not client.send(frame(wire.DATA, 0, number, bytes(16384))):
            break
    stream = client.streams[number]
    while stream.reset is None and client.turn():
        pass
    assert stream.reset == 3 or client.goaway and client.goaway[1] == 3, (stream, client.goaway)


def large(port):
    """Heads too large are 431 on their stream; the connection, table included, goes on."""
    client = Wire(port)
    for _ in range(3):
        for more in ([("x-a", "v" * 70_000)], [(f"x-{n}", "1") for n in range(150)]):
            number, client.next = client.next, client.next + 2
            client.streams[number] = wire.Stream(client.initial)
            block = client.encoder.encode(GET + more, huffman=False)
            parts = [block[at : at + 16000] for at in range(0, len(block), 16000)]
            for at, part in enumerate(parts):
                flags = wire.END_HEADERS if at + 1 == len(parts) else 0
                kind = wire.CONTINUATION if at else wire.HEADERS
                client.send(frame(kind, flags if at else flags | wire.END_STREAM, number, part))
            reply = client.finish(number)
            assert reply.status == "431", (reply, client.goaway)
            # What the large block put in the table still counts.
            told = json.loads(client.ask("/headers", more=[("x-b", "v" * 100), more[-1][:1] + ("1",)]).body)
            assert told["headers"]["x-b"] == "v" * 100, told
    assert client.goaway is None


def flood(port, kind):
    """Cheap for the client, dear for the server: it ends, and not in memory."""
    client = Wire(port)
    assert client.ask("/length?n=1").body == b"x"
    sent = 0
    for batch in FLOODS[kind](client):
        sent += 1
        if not client.send(batch):
            break
        if sent % 10 == 0:
            client.socket.setblocking(False)
            try:
                while client.turn():
                    pass
            except (BlockingIOError, wire.ssl.SSLWantReadError):
                pass
            client.socket.settimeout(wire.HANG)
        if client.goaway or client.closed:
            break
    if kind in HARMLESS and not client.goaway and not client.closed:
        client.next = 4001
        reply = client.ask("/length?n=2")
        # It may have been too much of it before that was read.
        assert reply.body == b"xx" or client.goaway and client.goaway[1], (reply, client.goaway)
        return
    while not client.goaway and client.turn():
        pass
    if not DIRECT:
        client.drain()
    assert client.goaway is None or client.goaway[1] != 0, client.goaway
    print(kind, "ended after", sent, "batches:", client.goaway)
    assert Wire(port).ask("/length?n=2").body == b"xx"


def rapid_reset(client):
    get = client.encoder.encode([field for field in GET[:2]] + [(":path", "/slow?ms=1000"), GET[3]])
    for number in range(1001, 400_001, 200):
        yield b"".join(
            frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, number + step, get)
            + frame(wire.RST_STREAM, 0, number + step, struct.pack(">I", wire.CANCEL))
            for step in range(0, 200, 2)
        )


def made_to_reset(client):
    # The server resets them itself: an update of nothing is an error of the stream.
    get = client.encoder.encode([field for field in GET[:2]] + [(":path", "/slow?ms=1000"), GET[3]])
    for number in range(1001, 400_001, 200):
        yield b"".join(
            frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, number + step, get)
            + frame(wire.WINDOW_UPDATE, 0, number + step, bytes(4))
            for step in range(0, 200, 2)
        )


def continuations(client):
    yield frame(wire.HEADERS, wire.END_STREAM, 1001, client.encoder.encode(GET))
    for _ in range(2000):
        yield frame(wire.CONTINUATION, 0, 1001, b"\x00\x01a\x01b" * 20) * 20


def empty_continuations(client):
    yield frame(wire.HEADERS, wire.END_STREAM, 1001, client.encoder.encode(GET))
    for _ in range(2000):
        yield frame(wire.CONTINUATION, 0, 1001) * 100


def empty_data(client):
    yield client.headers(1001, POST, end=False)
    for _ in range(4000):
        yield frame(wire.DATA, 0, 1001) * 100


def table_bomb(client):
    # One large entry, named a thousand times.
    yield client.headers(1001, GET + [("x-bomb", "b" * 3500)])
    for number in range(1003, 3003, 2):
        block = client.encoder.encode(GET) + b"\xbe" * 4000
        yield frame(wire.HEADERS, wire.END_HEADERS | wire.END_STREAM, number, block)


# What may also be borne for ever: priorities have no meaning any more, and each
# request of the bomb may be refused on its own.
HARMLESS = ("table_bomb",)

FLOODS = {
    "rapid_reset": rapid_reset,
    "made_to_reset": made_to_reset,
    "settings": lambda _: (wire.settings({wire.MAX_CONCURRENT_STREAMS: 100}) * 100 for _ in range(4000)),
    "empty_settings": lambda _: (frame(wire.SETTINGS) * 100 for _ in range(4000)),
    "pings": lambda _: (frame(wire.PING, 0, 0, bytes(8)) * 100 for _ in range(4000)),
    "priorities": lambda _: (frame(wire.PRIORITY, 0, 3001, struct.pack(">IB", 0, 1)) * 100 for _ in range(4000)),
    "continuations": continuations,
    "empty_continuations": empty_continuations,
    "empty_data": empty_data,
    "table_bomb": table_bomb,
}


def unread(port):
    """Answers to PING and SETTINGS that nobody reads do not pile up."""
    client = Wire(port)
    client.socket.settimeout(3)
    batch = (frame(wire.PING, 0, 0, bytes(8)) + frame(wire.SETTINGS)) * 1000
    try:
        for _ in range(3000):
            client.socket.sendall(batch)
    except OSError:
        return
    raise AssertionError("taken without end")


def refused_streams(port):
    """More streams than allowed are refused, not queued without bound, nor is it the end."""
    client = Wire(port)
    assert client.ask("/length?n=1").body == b"x"
    limit = client.settings[wire.MAX_CONCURRENT_STREAMS]
    assert limit <= 1024, limit
    numbers = [client.start("/slow?ms=700") for _ in range(limit + 20)]
    replies = [client.finish(number) for number in numbers]
    for reply in replies[:limit]:
        assert reply.body == b"slow", reply
    for reply in replies[limit:]:
        assert reply.reset == 7, reply
    assert client.goaway is None and client.ask("/length?n=2").body == b"xx"


def secure(port, ca, name):
    """Over TLS, chosen by ALPN."""
    client = Wire(port, tls=(ca, name))
    assert client.alpn == "h2"
    for n in range(1, 30):
        assert client.ask(f"/length?n={n}", host=name).body == b"x" * n
    assert client.ask("/echo", "POST", body=bytes(500_000)).body == bytes(500_000)


def main():
    story, port, *rest = sys.argv[1:]
    tell = globals()[story]
    assert inspect.isfunction(tell), story
    tell(int(port), *rest)


main()
