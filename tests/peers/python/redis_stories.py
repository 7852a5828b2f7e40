"""Stories told with redis-py. usage: redis_stories.py STORY PORT [ARGUMENTS]

The exit status is the verdict. Nothing here knows of Polyport: every story
holds on a direct connection to redis-server.
"""

import hashlib
import inspect
import socket
import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HANG = 15


def connect(port, **options):
    """A client with exactly one connection of its own that never reconnects unasked."""
    options = {"socket_timeout": HANG, "retry": Retry(NoBackoff(), 0), **options}
    return redis.Redis(port=port, single_connection_client=True, decode_responses=True, **options)


def raises(kind, call, *words):
    try:
        result = call()
    except kind as error:
        for word in words:
            assert word in str(error), (word, error)
        return error
    raise AssertionError(f"no {kind.__name__}, but {result!r}")


def pipelines(port):
    """Replies of long pipelines, of every type, in their order, with errors amid them."""
    client = connect(port)
    for size in (1, 2, 100, 5000):
        pipe = client.pipeline(transaction=False)
        for number in range(size):
            pipe.set(f"p:{number}", f"v{number}")
            pipe.get(f"p:{number}")
        replies = pipe.execute()
        assert replies == [each for n in range(size) for each in (True, f"v{n}")]
    pipe = client.pipeline(transaction=False)
    pipe.delete("list", "hash")
    pipe.rpush("list", "a", "b", "c")
    pipe.incr("list")  # an error amid the others
    pipe.lrange("list", 0, -1)
    pipe.hset("hash", mapping={"f": "1", "g": ""})
    pipe.hgetall("hash")
    pipe.get("missing")
    pipe.ping()
    _, pushed, error, items, _, mapping, missing, pong = pipe.execute(raise_on_error=False)
    assert pushed == 3 and items == ["a", "b", "c"] and mapping == {"f": "1", "g": ""}
    assert missing is None and pong is True
    assert isinstance(error, redis.ResponseError) and "WRONGTYPE" in str(error), error
    # Empty values, binary values, values that look like protocol.
    raw = redis.Redis(port=port, socket_timeout=HANG)
    for value in (b"", b"\r\n", b"*1\r\n$4\r\nPING\r\n", bytes(range(256)) * 300, b"\xda\xbb"):
        assert raw.set("binary", value) and raw.get("binary") == value


def transactions(port):
    client = connect(port)
    pipe = client.pipeline(transaction=True)
    pipe.set("t", 1).incr("t").incrby("t", 10).get("t")
    assert pipe.execute() == [True, 2, 12, "12"]
    run = client.execute_command
    run("SET", "t", "5")
    assert run("MULTI") in (True, "OK") and run("INCR", "t") == "QUEUED"
    # Nobody else sees what is only queued, nor runs inside this transaction.
    other = connect(port)
    assert other.get("t") == "5" and other.set("other", "x")
    assert run("EXEC") == [6] and other.get("t") == "6"
    run("MULTI")
    run("INCR", "t")
    assert run("DISCARD") in (True, "OK") and client.get("t") == "6"
    run("MULTI")
    raises(redis.ResponseError, lambda: run("NOSUCHCOMMAND"))
    raises(redis.ResponseError, lambda: run("EXEC"), "Transaction discarded")
    raises(redis.ResponseError, lambda: run("EXEC"), "EXEC without MULTI")
    raises(redis.ResponseError, lambda: run("DISCARD"), "DISCARD without MULTI")
    # One that dies amid its transaction leaves nothing behind for others.
    dying = connect(port)
    dying.execute_command("MULTI")
    dying.execute_command("SET", "t", "never")
    dying.close()
    time.sleep(0.2)
    for _ in range(3):
        assert connect(port).get("t") == "6"


def watch(port):
    """A conflict fails the transaction of the one who watched, and only that one."""
    client, other = connect(port), connect(port)
    client.set("w", 1)
    pipe = client.pipeline()
    pipe.watch("w")
    assert pipe.get("w") == "1"
    other.set("w", 2)
    pipe.multi()
    pipe.set("w", 3)
    raises(redis.WatchError, pipe.execute)
    assert client.get("w") == "2"
    # Without a conflict it goes through; what another watches is another's.
    pipe, theirs = client.pipeline(), other.pipeline()
    pipe.watch("w")
    theirs.watch("unrelated")
    client_value = pipe.get("w")
    pipe.multi()
    pipe.set("w", int(client_value) + 10)
    assert pipe.execute() == [True]
    theirs.multi()
    theirs.get("w")
    assert theirs.execute() == ["12"]
    # UNWATCH forgets.
    run = client.execute_command
    run("WATCH", "w")
    other.set("w", 0)
    run("UNWATCH")
    run("MULTI")
    run("GET", "w")
    assert run("EXEC") == ["0"]


def pubsub(port):
    publisher, listener = connect(port), redis.Redis(port=port, socket_timeout=HANG)
    subscription = listener.pubsub()
    subscription.subscribe("news", "sport")
    subscription.psubscribe("weather.*")
    for _ in range(3):
        assert subscription.get_message(timeout=5)["type"].endswith("subscribe")
    assert publisher.publish("news", "one") == 1
    assert publisher.publish("weather.berlin", "rain") == 1
    assert publisher.publish("nobody", "listens") == 0
    for number in range(500):
        publisher.publish("sport", number)
    first = subscription.get_message(timeout=5)
    assert (first["type"], first["data"]) == ("message", b"one"), first
    second = subscription.get_message(timeout=5)
    assert (second["type"], second["channel"]) == ("pmessage", b"weather.berlin"), second
    for number in range(500):
        message = subscription.get_message(timeout=5)
        assert message and message["data"] == str(number).encode(), (number, message)
    subscription.ping()
    assert subscription.get_message(timeout=5)["type"] == "pong"
    subscription.unsubscribe()
    subscription.punsubscribe()
    for _ in range(3):
        assert subscription.get_message(timeout=5)["type"].endswith("unsubscribe")
    # The same connection takes commands again.
    assert listener.ping()
    subscription.close()
    # One that leaves without a word is no subscriber any more.
    leaving = listener.pubsub()
    leaving.subscribe("gone")
    assert leaving.get_message(timeout=5)["type"] == "subscribe"
    leaving.close()
    deadline = time.time() + 5
    while publisher.publish("gone", "x") != 0:
        assert time.time() < deadline, "still subscribed"
        time.sleep(0.05)


def blocking(port):
    """One waits; others go on; the push wakes it. Nobody waits behind it."""
    waiting, others = connect(port), [connect(port) for _ in range(4)]
    others[0].delete("queue", "stream", "quiet")
    for wait, push, expected in (
        (lambda: waiting.blpop("queue", timeout=10), lambda c: c.rpush("queue", "job"), ("queue", "job")),
        (lambda: waiting.brpop(["empty", "queue"], timeout=10), lambda c: c.rpush("queue", "two"), ("queue", "two")),
        (lambda: waiting.blmove("queue", "done", 10), lambda c: c.rpush("queue", "three"), "three"),
        (lambda: waiting.bzpopmin("scores", timeout=10), lambda c: c.zadd("scores", {"m": 1}), ("scores", "m", 1.0)),
        (
            lambda: waiting.xread({"stream": "$"}, block=10_000)[0][0],
            lambda c: c.xadd("stream", {"f": "v"}),
            "stream",
        ),
    ):
        result = []
        thread = threading.Thread(target=lambda: result.append(wait()))
        thread.start()
        time.sleep(0.15)
        for client in others:
            assert client.ping() and client.set("x", "y") and client.get("x") == "y"
        assert not result, result
        push(others[0])
        thread.join(HANG)
        got = result[0] if result else None
        assert (tuple(got) if isinstance(got, (list, tuple)) else got) == expected, (got, expected)
    start = time.time()
    assert waiting.blpop("quiet", timeout=1) is None
    assert time.time() - start > 0.9
    assert waiting.ping()
    # What waits and leaves takes no job with it.
    leaving = connect(port)
    leaving.connection.send_command("BLPOP", "queue", 30) if leaving.connection else None
    leaving.close()
    time.sleep(0.3)
    others[0].rpush("queue", "kept")
    assert others[1].lpop("queue") == "kept"


def resp3(port):
    """HELLO 3: maps, doubles, nulls and pushes; beside a RESP2 client on the same upstream."""
    old = connect(port)
    new = connect(port, protocol=3)
    for _ in range(3):
        old.delete("h", "z")
        new.hset("h", mapping={"a": "1"})
        new.zadd("z", {"m": 1.5})
        assert new.execute_command("HGETALL", "h") == {"a": "1"}
        assert new.zrange("z", 0, -1, withscores=True) == [["m", 1.5]]
        assert old.zrange("z", 0, -1, withscores=True) == [("m", 1.5)]
        assert new.get("missing") is None and old.get("missing") is None
    hello = new.execute_command("HELLO")
    assert hello["proto"] == 3 and hello["server"] == "redis", hello
    raw = Raw(port)
    assert raw.ask("HELLO 2\r\n", until=b"modules").startswith(b"*")
    raw = Raw(port)
    assert b"NOPROTO" in raw.ask("HELLO 9\r\n")
    assert raw.ask("PING\r\n") == b"+PONG\r\n"
    # The wire itself: a RESP3 client gets RESP3, a RESP2 client beside it RESP2.
    three, two = Raw(port), Raw(port)
    assert three.ask("HELLO 3\r\n", until=b"modules").startswith(b"%")
    time.sleep(0.1)
    three.drain()
    for _ in range(3):
        assert three.ask("HGETALL h\r\n", until=b"$1\r\n1\r\n") == b"%1\r\n$1\r\na\r\n$1\r\n1\r\n"
        assert two.ask("HGETALL h\r\n", until=b"$1\r\n1\r\n") == b"*2\r\n$1\r\na\r\n$1\r\n1\r\n"
        assert three.ask("GET missing\r\n") == b"_\r\n"
        assert two.ask("GET missing\r\n") == b"$-1\r\n"
    # Pushes of a RESP3 subscription.
    listener = redis.Redis(port=port, protocol=3, socket_timeout=HANG).pubsub()
    listener.subscribe("three")
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    assert old.publish("three", "x") == 1
    assert listener.get_message(timeout=5)["data"] == b"x"
    listener.close()


def select(port):
    """Two clients in two databases, turn by turn, and a third in none."""
    zero, one, two = connect(port), connect(port, db=1), connect(port, db=2)
    zero.flushall()
    for turn in range(50):
        one.set("k", f"one{turn}")
        two.set("k", f"two{turn}")
        zero.set("k", f"zero{turn}")
        assert (one.get("k"), two.get("k"), zero.get("k")) == (f"one{turn}", f"two{turn}", f"zero{turn}")
    # Changing to and fro in one pipeline.
    pipe = zero.pipeline(transaction=False)
    for _ in range(20):
        pipe.execute_command("SELECT", 1)
        pipe.get("k")
        pipe.execute_command("SELECT", 2)
        pipe.get("k")
        pipe.execute_command("SELECT", 0)
        pipe.get("k")
    assert pipe.execute()[1::2] == ["one49", "two49", "zero49"] * 20
    # A refused change changes nothing.
    raises(redis.ResponseError, lambda: one.execute_command("SELECT", 99_999))
    assert one.get("k") == "one49"
    # In parallel.
    failures = []

    def work(db):
        client = connect(port, db=db)
        try:
            for turn in range(300):
                client.set("mine", f"{db}.{turn}")
                got = client.get("mine")
                assert got == f"{db}.{turn}", (db, turn, got)
        except Exception as error:  # handed to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(db,)) for db in range(3, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures


def auth(port):
    """Against a server that requires the password `secret`."""
    anonymous = connect(port)
    raises(redis.AuthenticationError, anonymous.ping, "Authentication required")
    # Someone else's password is not ours, in whatever order we come.
    known = connect(port, password="secret")
    assert known.set("a", "1") and known.get("a") == "1"
    raises(redis.AuthenticationError, lambda: connect(port, password="wrong").ping(), "invalid username-password")
    raises(redis.AuthenticationError, anonymous.ping, "Authentication required")
    # On one connection: out, still out after a wrong password, in, still in after another.
    raw = Raw(port)
    assert raw.ask("GET a\r\n").startswith(b"-NOAUTH")
    assert raw.ask("AUTH wrong\r\n").startswith(b"-WRONGPASS")
    assert raw.ask("GET a\r\n").startswith(b"-NOAUTH")
    assert raw.ask("AUTH secret\r\n") == b"+OK\r\n"
    assert raw.ask("GET a\r\n", until=b"1\r\n1\r\n") == b"$1\r\n1\r\n"
    assert raw.ask("AUTH wrong\r\n").startswith(b"-WRONGPASS")
    assert raw.ask("GET a\r\n", until=b"1\r\n1\r\n") == b"$1\r\n1\r\n"
    # All of it in one packet.
    raw = Raw(port)
    raw.send("GET a\r\nAUTH secret\r\nGET a\r\nSELECT 1\r\nGET a\r\nSELECT 0\r\nGET a\r\n")
    assert raw.read().startswith(b"-NOAUTH")
    want = b"+OK\r\n$1\r\n1\r\n+OK\r\n$-1\r\n+OK\r\n$1\r\n1\r\n"
    assert raw.read(until=want) == want
    # HELLO with AUTH, and a user of its own with rights of its own.
    known.execute_command("ACL", "SETUSER", "reader", "on", ">pass", "~*", "+get", "+ping", "+select", "+hello")
    reader = connect(port, username="reader", password="pass")
    assert reader.get("a") == "1"
    raises(redis.exceptions.NoPermissionError, lambda: reader.set("a", "2"))
    three = Raw(port)
    assert b"NOAUTH" in three.ask("GET a\r\n")
    assert b"WRONGPASS" in three.ask("HELLO 3 AUTH default wrong\r\n")
    assert b"NOAUTH" in three.ask("GET a\r\n")
    assert three.ask("HELLO 3 AUTH default secret\r\n", until=b"modules").startswith(b"%")
    time.sleep(0.1)
    three.drain()
    assert three.ask("GET a\r\n", until=b"1\r\n1\r\n") == b"$1\r\n1\r\n"
    raises(redis.AuthenticationError, lambda: connect(port).ping())


def names(port):
    clients = [connect(port) for _ in range(3)]
    for number, client in enumerate(clients):
        assert client.client_getname() is None
        assert client.client_setname(f"name{number}")
    for _ in range(3):
        for number, client in enumerate(clients):
            assert client.client_getname() == f"name{number}"
    assert connect(port).client_getname() is None
    raises(redis.ResponseError, lambda: clients[0].client_setname("with space"))
    assert clients[0].client_getname() == "name0"


def monitor(port):
    with redis.Redis(port=port, socket_timeout=HANG).monitor() as watching:
        other = connect(port)
        other.set("seen", "by monitor")
        for _ in range(20):
            if watching.next_command()["command"] == "SET seen by monitor":
                break
        else:
            raise AssertionError("MONITOR missed it")


def scripts(port):
    client = connect(port)
    assert client.eval("return redis.call('SET', KEYS[1], ARGV[1])", 1, "s", "v") == "OK"
    sha = client.script_load("return {KEYS[1], ARGV[1], 7}")
    assert connect(port).evalsha(sha, 1, "k", "a") == ["k", "a", 7]
    raises(redis.exceptions.NoScriptError, lambda: client.evalsha("0" * 40, 0))


class Raw:
    """A socket, and replies by the look of them."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), HANG)
        self.unread = b""

    def send(self, text):
        self.socket.sendall(text.encode())

    def read(self, until=b"\r\n"):
        while until not in self.unread:
            more = self.socket.recv(65536)
            if not more:
                raise EOFError(self.unread)
            self.unread += more
        end = self.unread.index(until) + len(until)
        taken, self.unread = self.unread[:end], self.unread[end:]
        return taken

    def ask(self, text, until=b"\r\n"):
        self.send(text)
        return self.read(until)

    def drain(self):
        """Forgets what came and was not asked for."""
        self.socket.setblocking(False)
        try:
            while self.socket.recv(65536):
                pass
        except BlockingIOError:
            pass
        self.socket.settimeout(HANG)
        self.unread = b""

    def silent(self, seconds=0.3):
        self.socket.settimeout(seconds)
        try:
            more = self.socket.recv(65536)
        except TimeoutError:
            more = None
        self.socket.settimeout(HANG)
        assert more is None and not self.unread, (more, self.unread)

    def closed(self):
        try:
            return self.socket.recv(65536) == b""
        except ConnectionResetError:
            return True


def inline(port):
    raw = Raw(port)
    assert raw.ask("PING\r\n") == b"+PONG\r\n"
    assert raw.ask('SET "a key" "a \\x41 value"\r\n') == b"+OK\r\n"
    assert raw.ask("GET 'a key'\r\n", until=b"value\r\n") == b"$9\r\na A value\r\n"
    assert raw.ask("PING\n") == b"+PONG\r\n"
    raw.send("\r\n\r\nPING\r\nECHO x\r\n*1\r\n$4\r\nPING\r\n")
    assert raw.read(until=b"x\r\n+PONG\r\n") == b"+PONG\r\n$1\r\nx\r\n+PONG\r\n"
    raw.send("PI")
    time.sleep(0.05)
    raw.send("NG\r")
    time.sleep(0.05)
    raw.send("\n")
    assert raw.read() == b"+PONG\r\n"
    assert b"ERR" in raw.ask("NOSUCH thing\r\n")
    assert raw.ask("PING\r\n") == b"+PONG\r\n"
    assert b"unbalanced" in raw.ask('SET "open\r\n')
    assert raw.closed()


def reset(port):
    """RESET takes a connection back to its beginning, whatever it was in the midst of."""
    raw = Raw(port)
    assert raw.ask("SELECT 3\r\n") == b"+OK\r\n"
    assert raw.ask("SET r three\r\n") == b"+OK\r\n"
    assert raw.ask("CLIENT SETNAME me\r\n") == b"+OK\r\n"
    assert raw.ask("MULTI\r\n") == b"+OK\r\n"
    assert raw.ask("GET r\r\n") == b"+QUEUED\r\n"
    assert raw.ask("RESET\r\n") == b"+RESET\r\n"
    assert b"EXEC without MULTI" in raw.ask("EXEC\r\n")
    assert raw.ask("SET r zero\r\n") == b"+OK\r\n"
    assert raw.ask("GET r\r\n", until=b"zero\r\n") == b"$4\r\nzero\r\n"
    assert raw.ask("CLIENT GETNAME\r\n")[:1] in (b"$", b"_")
    raw.drain()
    assert connect(port, db=3).get("r") == "three"
    assert raw.ask("SUBSCRIBE c\r\n", until=b":1\r\n").startswith(b"*3")
    assert raw.ask("RESET\r\n") == b"+RESET\r\n"
    assert raw.ask("PING\r\n") == b"+PONG\r\n"


def quit(port):
    raw = Raw(port)
    raw.send("SET q 1\r\nGET q\r\nQUIT\r\n")
    assert raw.read(until=b"$1\r\n1\r\n+OK\r\n") == b"+OK\r\n$1\r\n1\r\n+OK\r\n"
    assert raw.closed()
    assert connect(port).get("q") == "1"


def reply_off(port):
    """CLIENT REPLY: either as on a direct connection, or refused; never another's replies."""
    other = connect(port)
    raw = Raw(port)
    raw.send("CLIENT REPLY OFF\r\nSET off 1\r\n")
    time.sleep(0.3)
    for number in range(20):
        assert other.set("o", number) and other.get("o") == str(number)
    raw.socket.settimeout(0.2)
    try:
        refusal = raw.socket.recv(65536)
    except TimeoutError:
        refusal = b""
    raw.socket.settimeout(HANG)
    if refusal:
        assert refusal.startswith(b"-"), refusal
        return
    assert raw.ask("CLIENT REPLY ON\r\n") == b"+OK\r\n"
    assert raw.ask("GET off\r\n", until=b"1\r\n1\r\n") == b"$1\r\n1\r\n"
    raw.send("CLIENT REPLY SKIP\r\nSET off 2\r\nGET off\r\n")
    assert raw.read(until=b"1\r\n2\r\n") == b"$1\r\n2\r\n"
    assert other.get("off") == "2"


def big(port, size="100000000"):
    """A value of so many bytes, there and back, twice."""
    client = redis.Redis(port=port, socket_timeout=60)
    value = hashlib.sha256(b"polyport").digest() * (int(size) // 32)
    want = hashlib.sha256(value).digest()
    for _ in range(2):
        assert client.set("big", value)
        got = client.get("big")
        assert len(got) == len(value) and hashlib.sha256(got).digest() == want
    # Amid small ones of the same connection.
    pipe = client.pipeline(transaction=False)
    pipe.set("small", "1").get("big").get("small")
    replies = pipe.execute()
    assert replies[0] and len(replies[1]) == len(value) and replies[2] == b"1"
    client.delete("big")


def many(port, count="200"):
    """So many connections, all at work; they stay open until one line is read."""
    clients = [connect(port) for _ in range(int(count))]
    for turn in range(5):
        for number, client in enumerate(clients):
            client.set(f"many:{number}", turn)
        for number, client in enumerate(clients):
            assert client.get(f"many:{number}") == str(turn)
    # Those on the server, as the server sees them: one line for each.
    print(clients[0].info("clients")["connected_clients"])


def broken(port):
    """Broken RESP earns a protocol error and a close, and nobody else notices."""
    other = connect(port)
    for bytes_ in (
        "*1\r\n$x\r\nPING\r\n",
        "*2\r\n$3\r\nGET\r\n:5\r\n",
        "*1\r\n$-5\r\nPING\r\n",
        "*2147483649\r\n$4\r\n",
        "*1\r\n$536870913\r\n",
        "*x\r\n",
    ):
        # A good command first, so that what the connection speaks is known.
        raw = Raw(port)
        assert raw.ask("*1\r\n$4\r\nPING\r\n") == b"+PONG\r\n"
        raw.send(bytes_)
        reply = raw.read()
        assert reply.startswith(b"-ERR"), (bytes_, reply)
        assert raw.closed(), bytes_
        assert other.ping()


def main():
    story, port, *rest = sys.argv[1:]
    tell = globals()[story]
    assert inspect.isfunction(tell), story
    tell(int(port), *rest)


main()
