"""Stories told with grpcio. usage: grpc_stories.py STORY PORT [ARGUMENTS]

The exit status is the verdict. The server is grpc_server.py; but for those that
say so, the stories hold on a direct connection to it.
"""

import inspect
import sys
import threading
import time

import grpc
from google.protobuf import wrappers_pb2
from grpc import StatusCode
from grpc_status import rpc_status

import wire
from wire import Wire

HANG = 20
LOADS, DUMPS = wrappers_pb2.BytesValue.FromString, wrappers_pb2.BytesValue.SerializeToString
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0)]


def value(data):
    return wrappers_pb2.BytesValue(value=data)


class Client:
    """One channel, which is one connection."""

    def __init__(self, port, service="polyport.test.Echo", secure=None, compression=None):
        address, options = f"127.0.0.1:{port}", list(OPTIONS)
        if secure:
            ca, name = secure
            credentials = grpc.ssl_channel_credentials(open(ca, "rb").read())
            options.append(("grpc.ssl_target_name_override", name))
            self.channel = grpc.secure_channel(address, credentials, options, compression)
        else:
            self.channel = grpc.insecure_channel(address, options, compression)
        self.service = service

    def method(self, shape, name):
        make = getattr(self.channel, shape)
        return make(f"/{self.service}/{name}", request_serializer=DUMPS, response_deserializer=LOADS)

    def call(self, name, data=b"", timeout=HANG, **options):
        return self.method("unary_unary", name)(value(data), timeout=timeout, **options).value

    def down(self, count, size, **options):
        return self.method("unary_stream", "Down")(value(f"{count} {size}".encode()), timeout=60, **options)


def fails(call):
    try:
        result = call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"no error, but {result!r}")


def unary(port):
    client = Client(port)
    for size in (0, 1, 100, 16_384, 65_536, 1_000_000, 5_000_000):
        data = bytes(n % 256 for n in range(min(size, 1000))) * (size // 1000 + 1)
        assert client.call("Unary", data[:size]) == data[:size], size
    call = client.method("unary_unary", "Unary")
    for _ in range(5):
        waiting = [call.future(value(str(n).encode()), timeout=HANG) for n in range(300)]
        for n, each in enumerate(waiting):
            assert each.result().value == str(n).encode()


def slow_and_fast(port):
    """A slow call holds up no other on its connection."""
    client = Client(port)
    slow = client.method("unary_unary", "Slow").future(value(b"1500"), timeout=HANG)
    for n in range(50):
        assert client.call("Unary", str(n).encode()) == str(n).encode()
    assert not slow.done()
    assert slow.result().value == b"slow"


def streams(port):
    client = Client(port)
    for count, size in ((0, 4), (1, 4), (1000, 10), (50, 100_000)):
        got = list(client.down(count, size))
        assert [int.from_bytes(each.value[:4], "big") for each in got] == list(range(count))
        assert all(len(each.value) == size for each in got)
        up = client.method("stream_unary", "Up")(iter([value(bytes(size))] * count), timeout=60)
        assert up.value == f"{count} {count * size}".encode()
    # One by one: each message must come before the next is sent.
    answered = threading.Semaphore(1)

    def turns():
        for n in range(300):
            assert answered.acquire(timeout=HANG)
            yield value(str(n).encode())

    n = 0
    for reply in client.method("stream_stream", "Both")(turns(), timeout=60):
        assert reply.value == str(n).encode()
        n += 1
        answered.release()
    assert n == 300
    # Side by side, as fast as they go.
    def talk(number, failures):
        try:
            sent = [f"{number}-{n}".encode() * 100 for n in range(200)]
            got = client.method("stream_stream", "Both")(map(value, sent), timeout=60)
            assert [each.value for each in got] == sent
        except BaseException as error:
            failures.append(error)

    failures = []
    threads = [threading.Thread(target=talk, args=(number, failures)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures, failures


def metadata(port):
    client = Client(port)
    call = client.method("unary_unary", "Metadata")
    sent = (("x-one", "1, 2 and 3"), ("x-two-bin", bytes(range(255, -1, -1))))
    reply, details = call.with_call(value(b""), metadata=sent, timeout=HANG)
    initial, trailing = dict(details.initial_metadata()), dict(details.trailing_metadata())
    assert initial["x-initial"] == "first" and initial["x-initial-bin"] == bytes(range(256)), initial
    assert initial["x-one"] == "1, 2 and 3" and initial["x-two-bin"] == sent[1][1], initial
    assert trailing["x-trailing"] == "last" and trailing["x-trailing-bin"] == b"\0\xff", trailing
    assert b"user-agent" in reply.value, reply


def statuses(port):
    client = Client(port)
    for code in StatusCode:
        number = code.value[0]
        if number == 0:
            continue
        for message in ("", "plain", "100% ümläut\n\r\t 日本"):
            error = fails(lambda: client.call("Fail", f"{number} {message}".encode()))
            assert error.code() == code and error.details() == message, (code, message, error)
    stream = client.method("unary_stream", "FailLate")(value(b""), timeout=HANG)
    got = []
    error = fails(lambda: [got.append(each.value) for each in stream])
    assert got == [b"0", b"1", b"2"] and error.code() == StatusCode.DATA_LOSS, (got, error)
    assert error.details() == "after three" and dict(error.trailing_metadata())["x-reason"] == "late"
    error = fails(lambda: client.call("FailRichly"))
    status = rpc_status.from_call(error)
    assert status.code == 9 and status.message == "richly", status
    detail = wrappers_pb2.BytesValue()
    assert status.details[0].Unpack(detail) and detail.value == b"a detail", status
    error = fails(lambda: client.call("NoSuchMethod"))
    assert error.code() == StatusCode.UNIMPLEMENTED, error


def given_up(port):
    """What the client cancels, or lets run out of time, is cancelled at the server."""
    client = Client(port)
    before = int(client.call("GivenUp"))
    for _ in range(5):
        call = client.method("stream_stream", "Both")(iter(lambda: time.sleep(0.2) or value(b"x"), None), timeout=HANG)
        assert next(call).value == b"x"
        call.cancel()
        assert call.code() == StatusCode.CANCELLED
        waiting = client.method("unary_unary", "Slow").future(value(b"30000"), timeout=HANG)
        time.sleep(0.05)
        waiting.cancel()
        begun = time.time()
        error = fails(lambda: client.call("Slow", b"30000", timeout=0.3))
        assert error.code() == StatusCode.DEADLINE_EXCEEDED and time.time() - begun < 2, error
        assert client.call("Unary", b"others") == b"others"
    deadline = time.time() + 10
    # Those cancelled at once may never have reached it.
    while int(client.call("GivenUp")) < before + 10:
        assert time.time() < deadline, (before, client.call("GivenUp"))
        time.sleep(0.1)


def load(port, *secure):
    """Many channels, many calls, every one with its own answer; over TLS with a CA and a name."""
    failures = []

    def work(number):
        try:
            client = Client(port, secure=secure)
            call = client.method("unary_unary", "Unary")
            for round_ in range(10):
                datas = [f"{number}-{round_}-{n}".encode() * (n % 50 + 1) for n in range(40)]
                waiting = [call.future(value(data), timeout=HANG) for data in datas]
                assert [each.result().value for each in waiting] == datas
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failures, failures


def compressed(port):
    client = Client(port, compression=grpc.Compression.Gzip)
    for size in (0, 10, 1_000_000):
        assert client.call("Unary", bytes(size)) == bytes(size)


def secure(port, ca, name):
    client = Client(port, secure=(ca, name))
    assert client.call("Unary", b"secret" * 100_000) == b"secret" * 100_000
    assert [len(each.value) for each in client.down(100, 1000)] == [1000] * 100


COUNT, SIZE = 2000, 100_000


def stalled_reader(port):
    """200 MB for one who sleeps first; the test watches the proxy's memory."""
    client = Client(port)
    call = client.down(COUNT, SIZE)
    assert int.from_bytes(next(call).value[:4], "big") == 0
    time.sleep(4)
    # Others on the connection are not asleep.
    assert client.call("Unary", b"awake") == b"awake"
    for number, each in enumerate(call, 1):
        assert int.from_bytes(each.value[:4], "big") == number and len(each.value) == SIZE
    assert number == COUNT - 1


def stalled_server(port):
    """200 MB to one who sleeps first."""
    client = Client(port)
    sent = 0

    def messages():
        nonlocal sent
        for _ in range(COUNT):
            sent += 1
            yield value(bytes(SIZE))

    waiting = client.method("stream_unary", "LazyUp").future(messages(), timeout=60)
    time.sleep(3)
    print(sent, "messages taken while the server slept")
    assert client.call("Unary", b"awake") == b"awake"
    assert waiting.result().value == f"{COUNT} {COUNT * SIZE}".encode()


def stalled_both(port):
    """200 MB through an echo whose client does not read: it must come to a halt."""
    client = Client(port)
    sent, stop = 0, threading.Event()

    def messages():
        nonlocal sent
        for _ in range(COUNT):
            if stop.is_set():
                return
            sent += 1
            yield value(bytes(SIZE))

    call = client.method("stream_stream", "Both")(messages(), timeout=60)
    next(call)
    time.sleep(4)
    halted = sent
    time.sleep(1)
    assert sent == halted < COUNT, (sent, halted)
    print(sent, "messages taken while the client slept")
    assert client.call("Unary", b"awake") == b"awake"
    got = 1 + sum(len(each.value) == SIZE for each in call)
    assert got == COUNT, got


# What only a proxy can be asked.


def who(port, service="polyport.test.Echo", method="Who", key="", text=""):
    client = Client(port, service)
    sent = ((key, text),) if key else ()
    print(client.call(method, metadata=sent).decode())


def refused(port, service, method, *codes):
    """A call that gets no further than the proxy: trailers only, and the connection goes on."""
    client = Client(port, service)
    for _ in range(3):
        error = fails(lambda: client.call(method, b"1"))
        assert error.code().name in codes, error
        assert error.details(), "no reason"
    for shape in ("unary_stream", "stream_unary", "stream_stream"):
        data = value(b"1") if shape.startswith("unary") else iter([value(b"1")] * 10)
        call = client.method(shape, method)
        if shape == "stream_unary":
            error = fails(lambda: call(data, timeout=HANG))
        else:
            error = fails(lambda: list(call(data, timeout=HANG)))
        assert error.code().name in codes, error
    # On the wire: one HEADERS frame that ends the stream, and a status of 200.
    raw = Wire(port)
    reply = grpc_call(raw, f"/{service}/{method}")
    assert reply.status == "200" and reply.trailers is None and not reply.body, reply
    assert reply.headers["content-type"].startswith("application/grpc"), reply
    numbers = [str(StatusCode[name].value[0]) for name in codes]
    assert reply.headers["grpc-status"] in numbers and reply.headers.get("grpc-message"), reply
    # To a client that is not one of gRPC, the answer is HTTP's.
    reply = raw.ask(f"/{service}/{method}")
    assert reply.status in ("404", "502", "503") and "grpc-status" not in reply.headers, reply


def grpc_call(raw, path, more=(), body=b"\0\0\0\0\0", end=True):
    fields = [("content-type", "application/grpc"), ("te", "trailers")]
    number = raw.start(path, "POST", fields + list(more), end=False)
    raw.data(number, body, end)
    return raw.finish(number)


def timeouts(port):
    """The server is silent, and it is the proxy that keeps the client's time."""
    message = DUMPS(value(b"30000"))
    slow = b"\0" + len(message).to_bytes(4, "big") + message
    for text, seconds in (("300m", 0.3), ("300000u", 0.3), ("1S", 1), ("400000000n", 0.4), ("00000500m", 0.5)):
        raw, begun = Wire(port), time.time()
        reply = grpc_call(raw, "/polyport.test.Echo/Slow", [("grpc-timeout", text)], slow)
        took = time.time() - begun
        fields = reply.trailers or reply.headers
        assert reply.status == "200" and fields["grpc-status"] == "4", (text, reply)
        assert seconds * 0.9 < took < seconds + 1.5, (text, took)
        assert grpc_call(raw, "/polyport.test.Echo/Who").trailers["grpc-status"] == "0"
    # Longer than the answer takes: nothing happens.
    reply = grpc_call(Wire(port), "/polyport.test.Echo/Who", [("grpc-timeout", "1H")])
    assert reply.trailers["grpc-status"] == "0", reply
    # What is no timeout is refused, or not heeded; it must not hang or be the end.
    for text in ("", "m", "300", "300x", "-1S", "999999999999S", "1.5S"):
        raw = Wire(port)
        reply = grpc_call(raw, "/polyport.test.Echo/Who", [("grpc-timeout", text)])
        assert reply.status in ("200", "400") or reply.reset is not None, (text, reply)
        assert grpc_call(Wire(port), "/polyport.test.Echo/Who").trailers["grpc-status"] == "0"


def route_timeout(port):
    """The route's own timeout, where the client has none or a longer one."""
    for timeout in (None, 15):
        begun = time.time()
        client = Client(port)
        error = fails(lambda: client.call("Slow", b"30000", timeout=timeout))
        assert error.code() == StatusCode.DEADLINE_EXCEEDED, error
        assert time.time() - begun < 5


def patience(port):
    """The server is told what is left of the caller's time. Calls wait for each other."""
    client = Client(port)
    seen = int(client.call("Patience", timeout=30))
    # gRPC rounds up, to one part in a hundred.
    assert 0 < seen <= 30_600, seen
    slow = client.method("unary_unary", "Slow").future(value(b"4000"), timeout=HANG)
    seen = int(client.call("Patience", timeout=30))
    assert 0 < seen < 29_000, seen
    assert slow.result().value == b"slow"
    begun = time.time()
    error = fails(lambda: client.call("Slow", b"30000", timeout=0.4))
    assert error.code() == StatusCode.DEADLINE_EXCEEDED, error
    assert time.time() - begun < 5


def dying(port):
    """The server dies amid calls: they fail as UNAVAILABLE, and so do new ones."""
    client = Client(port)
    assert client.call("Unary", b"x") == b"x"
    slow = client.method("unary_unary", "Slow").future(value(b"20000"), timeout=HANG)
    stop = threading.Event()

    def messages():
        yield value(b"first")
        stop.wait(15)

    both = client.method("stream_stream", "Both")(messages(), timeout=HANG)
    assert next(both).value == b"first"
    time.sleep(0.2)
    print("kill", flush=True)
    error = slow.exception()
    assert error.code() == StatusCode.UNAVAILABLE, error
    error = fails(lambda: next(both))
    assert error.code() in (StatusCode.UNAVAILABLE, StatusCode.INTERNAL, StatusCode.UNKNOWN), error
    assert error.code() == StatusCode.UNAVAILABLE, error
    stop.set()
    for _ in range(3):
        error = fails(lambda: client.call("Unary", b"x"))
        assert error.code() == StatusCode.UNAVAILABLE, error
    print("restart", flush=True)
    deadline = time.time() + 20
    while True:
        try:
            assert client.call("Unary", b"again", timeout=2) == b"again"
            return
        except grpc.RpcError as error:
            assert time.time() < deadline, error
            time.sleep(0.2)


def lasting(port):
    """Five seconds of a talk with a message every 0.2 s."""
    client = Client(port)

    def messages():
        for n in range(25):
            time.sleep(0.2)
            yield value(str(n).encode())

    got = client.method("stream_stream", "Both")(messages(), timeout=HANG)
    assert [int(each.value) for each in got] == list(range(25))


def draining(port):
    """SIGTERM: what is in flight is answered."""
    client = Client(port)
    assert client.call("Unary", b"x") == b"x"
    slow = client.method("unary_unary", "Slow").future(value(b"2500"), timeout=HANG)
    stream = client.down(100, 1000)
    next(stream)
    print("ready", flush=True)
    assert slow.result().value == b"slow"
    assert len(list(stream)) == 99


def leaving(port, other):
    """One of two servers says that it goes: no call fails, and those after it go to the other."""
    options = [*OPTIONS, ("grpc.max_reconnect_backoff_ms", 500), ("grpc.default_authority", "calls.test")]
    failures, calls = [], []
    stop = threading.Event()

    def work(number):
        try:
            client = Client(port)
            client.channel = grpc.insecure_channel(f"ipv4:127.0.0.1:{port},127.0.0.1:{other}", options)
            for count in range(100_000):
                data = f"{number}-{count}".encode()
                assert client.call("Unary", data) == data
                calls.append(1)
                if stop.is_set():
                    break
                time.sleep(0.002)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    [thread.start() for thread in threads]
    time.sleep(1)
    print("ready", flush=True)
    time.sleep(4)
    stop.set()
    [thread.join() for thread in threads]
    assert not failures, failures
    assert len(calls) > 100, len(calls)


def changed(port):
    """A header that the config sets is metadata at the server; one it sets in replies, at the client."""
    client = Client(port)
    call = client.method("unary_unary", "Metadata")
    _, details = call.with_call(value(b""), timeout=HANG)
    initial = dict(details.initial_metadata())
    assert initial["x-set-by-proxy"] == "127.0.0.1" and initial["x-served-by"] == "grpc", initial


def main():
    story, port, *rest = sys.argv[1:]
    tell = globals()[story]
    assert inspect.isfunction(tell), story
    tell(int(port), *rest)


main()
