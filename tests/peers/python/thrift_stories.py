"""Stories told with Apache's Thrift. usage: thrift_stories.py STORY WIRE=PORT... [-- ARGUMENTS]

Each story is told in every form given. The exit status is the verdict.
"""

import contextlib
import inspect
import itertools
import json
import random
import sys
import threading
import time

from thrift.protocol.TMultiplexedProtocol import TMultiplexedProtocol
from thrift.Thrift import TApplicationException, TMessageType
from thrift.transport import TTransport
from thrift.transport.THeaderTransport import THeaderTransformID
from thrift.transport.TSocket import TSocket

from stories import Newer, Stock, Stories
from stories.ttypes import Colour, Everything, Missing, Point, Refused, Tree
from thrift_wires import factories

HANG = 20


@contextlib.contextmanager
def connect(wire, port, service=Stories, name=None):
    """A client on a connection of its own; `name` is what a multiplexed service is called."""
    socket = TSocket("127.0.0.1", port)
    socket.setTimeout(HANG * 1000)
    transports, protocols = factories(wire)
    transport = transports.getTransport(socket)
    protocol = protocols.getProtocol(transport)
    socket.open()
    client = service.Client(TMultiplexedProtocol(protocol, name) if name else protocol)
    # For headers and for answers out of turn.
    client.wire, client.service, client.socket = protocol, service, socket
    try:
        yield client
    finally:
        socket.close()


def raises(kind, call):
    try:
        result = call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}, but {result!r}"[:500])


def everything():
    point = Point(-1, 2**31 - 1, "größe ☃")
    tree = Tree("leaf", [])
    for depth in range(20):
        tree = Tree(f"node {depth}", [tree, Tree("other", [])])
    return Everything(
        yes=True,
        no=False,
        tiny=-128,
        small=-(2**15),
        medium=-(2**31),
        large=-(2**63),
        real=-1.5e300,
        text="text with \0 and 𝄞",
        bytes=bytes(range(256)),
        colour=Colour.ODD,
        point=point,
        bools=[True, False] * 40,
        numbers=[0, 1, -1, 127, 128, 2**63 - 1, -(2**63)],
        nested=[[], ["a"], ["b", ""] * 20],
        names={"x", "y", ""},
        points={"a": point, "": Point(0, 0)},
        deep={5: {-5: [0.1, float("inf")]}, 0: {}},
        none=[],
        empty={},
        tree=tree,
        last=True,
    )


def every_type(wire, port):
    with connect(wire, port) as client:
        for _ in range(3):
            assert client.echo(everything()) == everything()
            assert client.echo(Everything()) == Everything()
            assert client.nothing() is None
        big = everything()
        big.text, big.bytes = "ü" * 100_000, b"\0\x80\x01\0\x01" * 50_000
        big.points = {str(number): Point(number, -number) for number in range(5000)}
        big.numbers = list(range(-5000, 5000))
        assert client.echo(big) == big
        assert client.echo(everything()) == everything()


def sizes(wire, port):
    """Small to large both ways, and around the size that is still kept whole."""
    around = [(64 << 10) + off for off in (-64, -33, -1, 0, 1, 33, 64)]
    with connect(wire, port) as client:
        for size in [0, 1, 100, 5000, *around, 200_000, 1 << 20, 3 << 20]:
            made = client.make(size)
            assert len(made) == size and made.startswith("0123456789abcdef"[: size - size % 16])
            assert client.measure(made, b"") == size
            assert client.measure("", made.encode()) == size
            assert client.measure(made, b"\0" * size) == 2 * size
        assert client.count(150_000) == list(range(150_000))
        assert client.make(10) == "x" * 10


def exceptions(wire, port):
    with connect(wire, port, Newer) as client:
        for _ in range(2):
            refused = raises(Refused, lambda: client.refuse("refused"))
            assert (refused.why, refused.code) == ("no", -5), refused
            assert raises(Missing, lambda: client.refuse("missing")).key == "k" * 100_000
            assert client.refuse("not") == "not"
            crashed = raises(TApplicationException, client.crash)
            assert crashed.type == TApplicationException.INTERNAL_ERROR, crashed
            unknown = raises(TApplicationException, client.unheardOf)
            assert unknown.type == TApplicationException.UNKNOWN_METHOD, unknown
            assert "unheardOf" in unknown.message, unknown


def oneway(wire, port, count="200"):
    prefix = f"{wire} {random.random()} "
    # The last is long, and may come by another way than the others.
    sent = [prefix + str(number) for number in range(int(count))] + [prefix + "y" * 300_000]
    with connect(wire, port) as client:
        for text in sent[:-1]:
            client.note(text)
        # A call among them is not disturbed.
        assert client.refuse("among") == "among"
        client.note(sent[-1])
    # The connection is closed now; what it said counts all the same.
    with connect(wire, port) as client:
        for _ in range(200):
            notes = client.notes(prefix)
            if len(notes) >= len(sent):
                break
            time.sleep(0.05)
        assert sorted(notes) == sorted(sent), f"{len(notes)} of {len(sent)} arrived"


def multiplexed(wire, port, stories, stock):
    """Two services on one connection, on servers of their own."""
    with connect(wire, port, Stories, "Stories") as client:
        assert client.where() == stories
        other = Stock.Client(TMultiplexedProtocol(client.wire, "Stock"))
        for _ in range(3):
            assert other.find("it") == "found it" and other.where() == stock
            assert client.make(5) == "xxxxx" and client.where() == stories
        assert raises(Missing, lambda: client.refuse("missing")).key


def where(wire, port, *due):
    """What is asked, and the server that answers: `method=PORT`, `header:NAME:VALUE=PORT`."""
    with connect(wire, port) as client:
        for ask, due in (pair.split("=") for pair in due):
            if ask.startswith("header:"):
                _, name, value = ask.split(":")
                client.wire.set_header(name.encode(), value.encode())
            assert client.where() == due, ask


def headers(wire, port):
    with connect(wire, port) as client:
        said = {"tenant": "acme", "x-" + "n" * 100: "v" * 500, "empty": "", "": "nameless"}
        for _ in range(3):
            for key, value in said.items():
                client.wire.set_header(key.encode(), value.encode())
            heard = client.headers()
            assert heard == said, heard
            assert b"served-by" in client.wire.get_headers()
            # They are of one message only.
            assert client.headers() == {}


def changed(wire, port, tenant, served):
    """Somebody on the way sets `tenant` and takes `secret` out of the requests, and sets
    `x-route` in the replies."""
    with connect(wire, port) as client:
        said = {"first": "1", "x-" + "n" * 100: "v" * 500, "empty": "", "last": "2"}
        for more in ({}, {"secret": "hush"}, {"tenant": "forged", "secret": "hush", "SECRET": "two"}):
            for key, value in {**said, **more}.items():
                client.wire.set_header(key.encode(), value.encode())
            heard = client.headers()
            assert heard == {**said, "tenant": tenant}, heard
            told = client.wire.get_headers()
            assert told[b"x-route"] == served.encode() and b"served-by" in told, told
            assert client.headers() == {"tenant": tenant}
            assert client.echo(everything()) == everything()
        client.note(f"changed {wire}")
        for _ in range(100):
            if client.notes(f"changed {wire}"):
                break
            time.sleep(0.02)
        else:
            raise AssertionError("the note is lost")


def concurrent(wire, port, clients="32", calls="20", most="1000"):
    """Many clients at once: each hears its own answers, over few connections."""
    wrong = []

    def talk(number):
        with connect(wire, port) as client:
            for call in range(int(calls)):
                text = f"{number} {call} " + "z" * random.choice([0, 10, 1000, 5000])
                if client.shuffle(text) != text:
                    wrong.append(text)

    with connect(wire, port) as client:
        before = client.accepted()
        failed = run([lambda number=number: talk(number) for number in range(int(clients))])
        assert not failed, failed
        assert not wrong, wrong
        opened = client.accepted() - before
        assert opened <= int(most), f"{opened} connections"


def run(tasks):
    """Runs all at once; what they raised."""
    failed = []

    def guarded(task):
        try:
            task()
        except BaseException as error:
            failed.append(repr(error))

    threads = [threading.Thread(target=guarded, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failed


def send(client, seqid, text):
    client._seqid = seqid
    client.send_shuffle(text)


def hear(client):
    """The next reply: its sequence id and text."""
    name, kind, seqid = client.wire.readMessageBegin()
    if kind == TMessageType.EXCEPTION:
        error = TApplicationException()
        error.read(client.wire)
        raise error
    result = client.service.shuffle_result()
    result.read(client.wire)
    client.wire.readMessageEnd()
    assert (name, kind) == ("shuffle", TMessageType.REPLY), (name, kind)
    if hasattr(client.wire, "get_headers"):
        assert client.wire.trans.sequence_id == seqid
    return seqid, result.success


def in_flight(wire, port, rounds="3"):
    """Several calls on one connection before any answer; each has its own."""
    ids = [*range(1, 60), 127, 128, 16_383, 16_384, 2**31 - 1, -(2**31), -1, 0]
    with connect(wire, port) as client:
        for _ in range(int(rounds)):
            random.shuffle(ids)
            for seqid in ids:
                send(client, seqid, f"text {seqid} " + "w" * random.choice([0, 3000]))
            heard = [hear(client) for _ in ids]
            assert sorted(seqid for seqid, _ in heard) == sorted(ids)
            for seqid, text in heard:
                assert text.split()[1] == str(seqid), (seqid, text[:30])


def in_flight_of_all_sizes(wire, port):
    """The same with calls and answers too large to be kept whole, beside small ones."""
    with connect(wire, port) as client:
        # Two threads must not share what keeps state.
        transports, protocols = factories(wire)
        sending = Stories.Client(protocols.getProtocol(transports.getTransport(client.socket)))
        texts = {
            seqid: f"text {seqid} " + "w" * random.choice([0, 3000, 65_400, 70_000, 400_000])
            for seqid in range(1, 101)
        }
        calls = list(texts.items())
        sender = threading.Thread(target=lambda: [send(sending, *call) for call in calls])
        sender.start()
        for _ in range(len(texts)):
            seqid, text = hear(client)
            assert texts.pop(seqid) == text, f"{seqid}: {text[:30]}, {len(text)} bytes"
        sender.join()


def up_to_the_limit(wire, port):
    """A frame as large as Apache's own limit passes; a larger one is refused."""
    limit = 16_384_000
    with connect(wire, port) as client:
        for size in (limit - 100, limit // 2):
            assert client.measure("", b"x" * size) == size
            assert len(client.make(size)) == size
        assert client.refuse("not") == "not"
        # Where it is only seen in the midst, the connection ends; or Apache's own limit is met.
        raises(Exception, lambda: client.make(limit + 100))
    with connect(wire, port) as client:
        if wire.startswith("header"):
            client.wire.trans.set_max_frame_size(2 * limit)
        error = raises(TApplicationException, lambda: client.measure("", b"x" * (limit + 100)))
        assert error.type == TApplicationException.PROTOCOL_ERROR and "larg" in error.message, error


def all_zero(wire, port):
    """A client whose calls all have one id: their answers come in order."""
    with connect(wire, port) as client:
        for seqid in (0, 9):
            for number in range(40):
                send(client, seqid, str(number))
            heard = [hear(client) for _ in range(40)]
            assert heard == [(seqid, str(number)) for number in range(40)], heard


def zipped(wire, port, carried="no"):
    """A transform that is not carried is refused in so many words."""
    with connect(wire, port) as client:
        client.wire.add_transform(THeaderTransformID.ZLIB)
        if carried == "yes":
            assert client.make(100_000) == client.make(100_000)
            return
        error = raises(TApplicationException, lambda: client.make(10))
        assert "transform" in error.message, error
        raises(TTransport.TTransportException, lambda: client.make(10))


def refused(wire, port, code, *words):
    """An error of the proxy's own, after which the connection goes on."""
    with connect(wire, port, Stock, "Stock") as client:
        stories = Stories.Client(TMultiplexedProtocol(client.wire, "Stories"))
        for _ in range(3):
            error = raises(TApplicationException, lambda: client.find("it"))
            assert error.type == int(code), error
            assert error.message and all(word in error.message for word in words), error
            assert stories.refuse("not") == "not"


def refused_large(wire, port, code):
    """The same where what is refused is a megabyte each way."""
    with connect(wire, port, Stock, "Stock") as client:
        stories = Stories.Client(TMultiplexedProtocol(client.wire, "Stories"))
        for _ in range(3):
            error = raises(TApplicationException, lambda: client.find("x" * 1_000_000))
            assert error.type == int(code), error
            assert stories.make(1_000_000) == "0123456789abcdef" * 62_500


def late(wire, port):
    """A call past its time is answered, and its answer is not taken for another's."""
    with connect(wire, port) as client:
        start = time.monotonic()
        error = raises(TApplicationException, lambda: client.slow(1500, "late"))
        assert error.type == TApplicationException.INTERNAL_ERROR and error.message, error
        assert time.monotonic() - start < 1.4
        time.sleep(1.3)
        assert client.slow(1, "early") == "early"
        time.sleep(0.5)
        assert client.shuffle("next") == "next"


def slow(wire, port, ms):
    with connect(wire, port) as client:
        print("asking", flush=True)
        print(client.slow(int(ms), "finished"))


def load(wire, port, seconds, clients, depth, strict=""):
    """Calls for a while, over several connections, `depth` in flight on each; how they ended."""
    tally = {"sent": 0, "answered": 0, "failed": 0, "lost": 0}
    lock, end = threading.Lock(), time.monotonic() + float(seconds)
    serials = itertools.count()

    def add(**parts):
        with lock:
            for name, count in parts.items():
                tally[name] += count

    def talk():
        while time.monotonic() < end:
            try:
                with connect(wire, port) as client:
                    while time.monotonic() < end:
                        batch(client)
            except (TTransport.TTransportException, OSError, EOFError) as error:
                assert "timed out" not in str(error), error
                time.sleep(0.02)

    def batch(client):
        waiting = {}
        try:
            for seqid in range(1, int(depth) + 1):
                text = f"{next(serials)} " + "q" * random.choice([0, 100, 2000])
                waiting[seqid] = text
                add(sent=1)
                send(client, seqid, text)
            while waiting:
                name, kind, seqid = client.wire.readMessageBegin()
                failed = kind == TMessageType.EXCEPTION
                result = TApplicationException() if failed else Stories.shuffle_result()
                result.read(client.wire)
                client.wire.readMessageEnd()
                assert seqid in waiting, f"a reply too many: {seqid}"
                if failed:
                    assert result.message, result
                    add(failed=1)
                else:
                    assert result.success == waiting[seqid], "another call's reply"
                    add(answered=1)
                del waiting[seqid]
        finally:
            add(lost=len(waiting))

    failed = run([talk] * int(clients))
    assert not failed, failed
    print(json.dumps(tally, separators=(",", ":")))
    if strict:
        assert tally["answered"] == tally["sent"] > 0, tally


def main():
    story, *rest = sys.argv[1:]
    cut = rest.index("--") if "--" in rest else len(rest)
    told = globals()[story]
    assert inspect.isfunction(told)
    for wire, port in (pair.split("=") for pair in rest[:cut]):
        try:
            told(wire, int(port), *rest[cut + 1 :])
        except BaseException:
            print(f"--- {story} in {wire}", file=sys.stderr)
            raise


main()
