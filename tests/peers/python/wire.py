"""HTTP/2 frame by frame: a client that may say what a well-behaved one would not.

Header compression is the hpack package's; frames are made and read here, as no
library writes broken ones.
"""

import socket
import ssl
import struct

import hpack

HANG = 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED = 0x1, 0x1, 0x4, 0x8, 0x20

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 1, 2, 3, 4, 5
ENABLE_CONNECT_PROTOCOL = 8

CANCEL = 8


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def settings(values):
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in values.items()))


class Stream:
    """What has come of one request."""

    def __init__(self, window):
        self.interim, self.headers, self.body, self.trailers = [], None, bytearray(), None
        self.reset, self.ended, self.window = None, False, window

    @property
    def status(self):
        return self.headers and self.headers.get(":status")

    def __repr__(self):
        return (
            f"<{self.headers} {bytes(self.body[:200])} of {len(self.body)} {self.trailers} "
            f"reset={self.reset} ended={self.ended}>"
        )


class Wire:
    """One connection. Windows are opened as data comes unless `hold` is set."""

    def __init__(self, port, values=None, hold=False, preface=True, tls=None):
        self.socket = socket.create_connection(("127.0.0.1", port), HANG)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.alpn = None
        if tls:
            context = ssl.create_default_context(cafile=tls[0])
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(self.socket, server_hostname=tls[1])
            self.alpn = self.socket.selected_alpn_protocol()
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.decoder.max_allowed_table_size = 65536
        self.buffer, self.streams, self.next, self.hold = b"", {}, 1, hold
        self.goaway, self.closed, self.pongs, self.acks = None, False, [], 0
        # What the peer allows us.
        self.settings, self.window, self.initial, self.frame = {}, 65535, 65535, 16384
        self.own = (values or {}).get(INITIAL_WINDOW_SIZE, 65535)
        if preface:
            self.send(PREFACE + settings(values or {}))

    def send(self, data):
        """False where the peer has hung up."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return False

    def headers(self, stream, fields, end=True, flags=END_HEADERS, huffman=True):
        block = self.encoder.encode(fields, huffman=huffman)
        return frame(HEADERS, flags | (END_STREAM if end else 0), stream, block)

    def start(self, path, method="GET", more=(), end=True, host="h2.test"):
        """Begins a request; its number."""
        number, self.next = self.next, self.next + 2
        pseudo = [(":method", method), (":scheme", "http"), (":path", path), (":authority", host)]
        self.streams[number] = Stream(self.initial)
        self.send(self.headers(number, pseudo + list(more), end))
        return number

    def open(self, fields, end=True):
        """Begins a request of exactly these fields."""
        number, self.next = self.next, self.next + 2
        self.streams[number] = Stream(self.initial)
        self.send(self.headers(number, fields, end, huffman=False))
        return number

    def data(self, number, body, end=True):
        """Sends a body as the peer's windows allow."""
        stream, body = self.streams[number], memoryview(bytes(body))
        while True:
            room = min(stream.window, self.window, self.frame, len(body))
            if room or not body:
                last = end and room == len(body)
                if not self.send(frame(DATA, END_STREAM if last else 0, number, bytes(body[:room]))):
                    return False
                stream.window -= room
                self.window -= room
                body = body[room:]
                if not body:
                    return True
            elif stream.ended or stream.reset is not None or not self.turn():
                return False

    def ask(self, path, method="GET", more=(), body=None, trailers=None, host="h2.test"):
        """A whole exchange."""
        number = self.start(path, method, more, end=body is None, host=host)
        if body is not None:
            self.data(number, body, end=trailers is None)
            if trailers is not None:
                self.send(self.headers(number, trailers))
        return self.finish(number)

    def finish(self, number):
        """Waits until that stream has ended, one way or the other."""
        stream = self.streams[number]
        while not stream.ended and stream.reset is None and self.turn():
            pass
        return stream

    def until(self, done):
        while not done():
            assert self.turn(), f"closed: {self.goaway}"

    def drain(self):
        """Reads until the peer closes."""
        while self.turn():
            pass

    def turn(self):
        """Reads one frame; false at the end."""
        got = self.read()
        if got is None:
            self.closed = True
            return False
        self.heed(*got)
        return True

    def read(self):
        while len(self.buffer) < 9 or len(self.buffer) < 9 + self.length():
            try:
                more = self.socket.recv(1 << 18)
            except ConnectionResetError:
                return None
            if not more:
                return None
            self.buffer += more
        length = self.length()
        head, payload = self.buffer[:9], self.buffer[9 : 9 + length]
        self.buffer = self.buffer[9 + length :]
        return head[3], head[4], struct.unpack(">I", head[5:9])[0] & 0x7FFFFFFF, payload

    def length(self):
        return int.from_bytes(self.buffer[:3], "big")

    def heed(self, kind, flags, number, payload):
        stream = self.streams.get(number)
        if kind == SETTINGS and flags & ACK:
            self.acks += 1
        elif kind == SETTINGS:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack(">HI", payload[at : at + 6])
                self.settings[name] = value
                if name == INITIAL_WINDOW_SIZE:
                    for each in self.streams.values():
                        each.window += value - self.initial
                    self.initial = value
                elif name == MAX_FRAME_SIZE:
                    self.frame = value
            self.send(frame(SETTINGS, ACK))
        elif kind == PING and flags & ACK:
            self.pongs.append(payload)
        elif kind == PING:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            last, code = struct.unpack(">II", payload[:8])
            self.goaway = (last, code, payload[8:])
        elif kind == WINDOW_UPDATE:
            (more,) = struct.unpack(">I", payload)
            assert more > 0, "an update of nothing"
            if number == 0:
                self.window += more
            elif stream:
                stream.window += more
        elif kind == RST_STREAM and stream:
            (stream.reset,) = struct.unpack(">I", payload)
        elif kind == HEADERS:
            payload = unpadded(flags, payload)
            if flags & PRIORITISED:
                payload = payload[5:]
            while not flags & END_HEADERS:
                kind, more, same, rest = self.read()
                assert kind == CONTINUATION and same == number
                payload, flags = payload + rest, flags | (more & END_HEADERS)
            # Decoded whoever it is for: the table must be kept.
            fields = self.decoder.decode(payload)
            if stream:
                self.fields(stream, fields)
                stream.ended |= bool(flags & END_STREAM)
        elif kind == DATA:
            if stream:
                stream.body += unpadded(flags, payload)
                stream.ended |= bool(flags & END_STREAM)
            if payload and not self.hold:
                self.open_window(0, len(payload))
                if stream and not stream.ended:
                    self.open_window(number, len(payload))

    def fields(self, stream, fields):
        named = {}
        for name, value in fields:
            assert name == name.lower(), name
            named[name] = f"{named[name]}, {value}" if name in named else value
        if stream.headers is not None:
            assert not any(name.startswith(":") for name in named), named
            stream.trailers = named
        elif named[":status"].startswith("1"):
            stream.interim.append(named)
        else:
            stream.headers = named

    def open_window(self, number, by):
        self.send(frame(WINDOW_UPDATE, 0, number, struct.pack(">I", by)))

    def reset(self, number, code=CANCEL):
        self.send(frame(RST_STREAM, 0, number, struct.pack(">I", code)))


def unpadded(flags, payload):
    if not flags & PADDED:
        return payload
    assert payload[0] < len(payload)
    return payload[1 : len(payload) - payload[0]]
