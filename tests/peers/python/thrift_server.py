"""Thrift servers of Apache's library. usage: thrift_server.py MODE:WIRE=PORT...

Modes: `threaded`, Apache's own TThreadedServer, which answers a connection's calls
one after the other; `async` answers each when it is done, in any order (framed and
header only); `zero` and `wrong` are threaded, and give every reply the sequence id
0 or 4711.
"""

import logging
import random
import socket
import struct
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from thrift.protocol.TProtocol import TProtocolFactory
from thrift.server.TServer import TThreadedServer
from thrift.Thrift import TMessageType, TProcessor
from thrift.TMultiplexedProcessor import TMultiplexedProcessor
from thrift.transport import TSocket, TTransport

from stories import Stock, Stories
from stories.ttypes import Missing, Refused
from thrift_wires import factories

# What a declared exception costs is told by the reply; a log of it is noise.
logging.disable(logging.ERROR)

notes, notes_lock = [], threading.Lock()
current = threading.local()


class Handler:
    """Both services."""

    def __init__(self, port):
        self.port = port
        self.connections = 0

    def echo(self, everything):
        return everything

    def make(self, size):
        return "0123456789abcdef" * (size // 16) + "x" * (size % 16)

    def measure(self, text, bytes):
        return len(text) + len(bytes or b"")

    def count(self, to):
        return list(range(to))

    def nothing(self):
        pass

    def refuse(self, how):
        if how == "refused":
            raise Refused("no", -5)
        if how == "missing":
            raise Missing("k" * 100_000)
        return how

    def crash(self):
        raise ValueError("not declared")

    def note(self, text):
        with notes_lock:
            notes.append(text)

    def notes(self, prefix):
        with notes_lock:
            return [text for text in notes if text.startswith(prefix)]

    def shuffle(self, text):
        time.sleep(random.random() * 0.004)
        return text

    def slow(self, ms, text):
        time.sleep(ms / 1000)
        return text

    def find(self, text):
        return f"found {text}"

    def where(self):
        return str(self.port)

    def headers(self):
        protocol = current.protocol
        if not hasattr(protocol, "get_headers"):
            return {}
        headers = dict(protocol.get_headers())
        protocol.set_header(b"served-by", str(self.port).encode())
        return {key.decode(): value.decode("latin-1") for key, value in headers.items()}

    def accepted(self):
        return self.connections


class Services(TProcessor):
    """Both services by name, and the stories for clients that name none."""

    def __init__(self, handler):
        self.services = TMultiplexedProcessor()
        self.services.registerProcessor("Stories", Stories.Processor(handler))
        self.services.registerProcessor("Stock", Stock.Processor(handler))
        self.services.registerDefault(Stories.Processor(handler))

    def process(self, iprot, oprot):
        current.protocol = iprot
        return self.services.process(iprot, oprot)


class Listening(TSocket.TServerSocket):
    """Counts connections and says when it listens."""

    def __init__(self, port, handler):
        super().__init__("127.0.0.1", port)
        self.handler = handler
        self.setBacklog(4096)

    def listen(self):
        super().listen()
        print("ready", flush=True)

    def accept(self):
        client = super().accept()
        client.handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.handler.connections += 1
        return client


class Renumbered(TProtocolFactory):
    """Gives every reply one sequence id."""

    def __init__(self, inner, seqid):
        self.inner, self.seqid = inner, seqid

    def getProtocol(self, trans):
        protocol = self.inner.getProtocol(trans)
        begin = protocol.writeMessageBegin
        protocol.writeMessageBegin = lambda name, kind, seqid: begin(name, kind, self.seqid)
        return protocol


class OneFrame(TTransport.TTransportBase):
    """A frame to be read, and a place for what is written."""

    def __init__(self, frame):
        self.frame, self.written = TTransport.TMemoryBuffer(frame), b""

    def read(self, size):
        return self.frame.read(size)

    def write(self, data):
        self.written += data

    def flush(self):
        pass


def answer(client, lock, frame, processor, transports, protocols):
    inner = OneFrame(frame)
    protocol = protocols.getProtocol(transports.getTransport(inner))
    processor.process(protocol, protocol)
    if inner.written:
        with lock:
            client.sendall(inner.written)


def serve_frames(client, processor, transports, protocols):
    lock, length = threading.Lock(), struct.Struct("!I")
    with client, ThreadPoolExecutor(16) as pool, client.makefile("rb") as stream:
        while len(head := stream.read(4)) == 4:
            frame = head + stream.read(length.unpack(head)[0])
            pool.submit(answer, client, lock, frame, processor, transports, protocols)


def serve(mode, wire, port):
    handler = Handler(port)
    processor, listening = Services(handler), Listening(port, handler)
    transports, protocols = factories(wire)
    if mode == "async":
        listening.listen()
        while True:
            client = listening.accept().handle
            arguments = (client, processor, transports, protocols)
            threading.Thread(target=serve_frames, args=arguments, daemon=True).start()
    if mode in ("zero", "wrong"):
        protocols = Renumbered(protocols, 0 if mode == "zero" else 4711)
    TThreadedServer(processor, listening, transports, protocols, daemon=True).serve()


servers = []
for argument in sys.argv[1:]:
    mode, rest = argument.split(":")
    wire, port = rest.split("=")
    servers.append(threading.Thread(target=serve, args=(mode, wire, int(port))))
    servers[-1].start()
# Pools take no work once the main thread has ended.
for server in servers:
    server.join()
