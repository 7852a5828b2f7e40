"""Stories told with Eclipse Paho. usage: mqtt_stories.py STORY VERSION PORT [ARGUMENTS]

VERSION is 3.1, 3.1.1 or 5.0. The exit status is the verdict. Nothing here knows of
Polyport: every story holds on a direct connection to mosquitto, but for those whose
names begin with `denied`, which need somebody who denies.
"""

import hashlib
import inspect
import os
import queue
import socket
import sys
import threading
import time
import uuid

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

HANG = 20
# Over TLS, where it is said whom to trust.
CA = os.environ.get("POLYPORT_TESTS_CA")
VERSIONS = {"3.1": mqtt.MQTTv31, "3.1.1": mqtt.MQTTv311, "5.0": mqtt.MQTTv5}
NOT_AUTHORIZED = 0x87


def properties(kind, **values):
    these = Properties(kind)
    for name, value in values.items():
        setattr(these, name, value)
    return these


def fresh(name):
    return f"{name}-{uuid.uuid4().hex[:8]}"


class Client:
    """A client whose callbacks are queues to wait at. It never reconnects unasked."""

    def __init__(self, port, version, name=None, clean=True, expiry=0, will=None, username=None, keepalive=30):
        self.version = VERSIONS[version]
        self.port = port
        self.keepalive = keepalive
        v5 = self.version == mqtt.MQTTv5
        options = {} if v5 else {"clean_session": clean}
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name or fresh("c"),
            protocol=self.version,
            reconnect_on_failure=False,
            **options,
        )
        if CA:
            self.paho.tls_set(CA)
        self.options = {}
        if v5:
            self.options["clean_start"] = clean
            self.options["properties"] = properties(PacketTypes.CONNECT, SessionExpiryInterval=expiry)
        if will:
            self.paho.will_set(*will)
        if username:
            self.paho.username_pw_set(username, "secret")
        self.connected, self.ended = queue.Queue(), queue.Queue()
        self.messages, self.granted = queue.Queue(), queue.Queue()
        self.published, self.unsubscribed = queue.Queue(), queue.Queue()
        paho = self.paho
        paho.max_inflight_messages_set(20)
        paho.max_queued_messages_set(0)
        paho.on_connect = lambda c, u, flags, code, p: self.connected.put((flags.session_present, code))
        paho.on_disconnect = lambda c, u, flags, code, p: self.ended.put((flags, code))
        paho.on_message = lambda c, u, message: self.messages.put(message)
        paho.on_subscribe = lambda c, u, mid, codes, p: self.granted.put([code.value for code in codes])
        paho.on_publish = lambda c, u, mid, code, p: self.published.put((mid, code.value))
        paho.on_unsubscribe = lambda c, u, mid, codes, p: self.unsubscribed.put([code.value for code in codes])

    def open(self):
        """Connects; whether the server had a session."""
        self.paho.connect("127.0.0.1", self.port, self.keepalive, **self.options)
        self.paho.loop_start()
        present, code = self.connected.get(timeout=HANG)
        assert code.value == 0, code
        return present

    def __enter__(self):
        self.open()
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.paho.disconnect()
        self.paho.loop_stop()

    def lose(self):
        """Ends the connection without a word."""
        self.paho.socket().shutdown(socket.SHUT_RDWR)
        self.ended.get(timeout=HANG)
        self.paho.loop_stop()

    def subscribe(self, *filters):
        """Subscribes to (filter, QoS) in one packet; the codes granted."""
        if self.version == mqtt.MQTTv5:
            filters = [(name, SubscribeOptions(qos=qos)) for name, qos in filters]
        self.paho.subscribe(list(filters))
        return self.granted.get(timeout=HANG)

    def publish(self, topic, payload, qos=0, retain=False, **more):
        """Publishes and waits until it is acknowledged; the code."""
        these = properties(PacketTypes.PUBLISH, **more) if more else None
        info = self.paho.publish(topic, payload, qos, retain, these)
        while True:
            mid, code = self.published.get(timeout=HANG)
            if mid == info.mid:
                return code

    def message(self):
        return self.messages.get(timeout=HANG)

    def silent(self, seconds=0.5):
        try:
            message = self.messages.get(timeout=seconds)
        except queue.Empty:
            return
        raise AssertionError(f"not silent: {message.topic} {message.payload!r}")


def exchange(port, version):
    """Every QoS, both ways, wildcards, and no message after the subscription."""
    with Client(port, version) as listener, Client(port, version) as speaker:
        root = fresh("t")
        assert listener.subscribe((f"{root}/+/a", 0), (f"{root}/+/b", 1), (f"{root}/c/#", 2)) == [0, 1, 2]
        for qos in (0, 1, 2):
            for leaf, most in (("x/a", 0), ("x/b", 1), ("c/d", 2)):
                assert speaker.publish(f"{root}/{leaf}", f"{qos}", qos) == 0
                message = listener.message()
                assert message.topic == f"{root}/{leaf}" and message.payload == b"%d" % qos
                assert message.qos == min(qos, most), (message.qos, qos, most)
        assert speaker.publish(f"{root}/x/other", "nobody listens", 1) in (0, 0x10)
        for payload in (b"", b"\x00\x10\xff", bytes(range(256)) * 200, b"\x10\x0c\x00\x04MQTT"):
            speaker.publish(f"{root}/c/d", payload, 1)
            assert listener.message().payload == payload
        listener.paho.unsubscribe([f"{root}/+/a", f"{root}/c/#"])
        listener.unsubscribed.get(timeout=HANG)
        speaker.publish(f"{root}/c/d", "late", 1)
        speaker.publish(f"{root}/x/b", "still", 1)
        assert listener.message().payload == b"still"
        listener.silent()


def many(port, version, count="300"):
    """Many messages in flight, both ways at once, in their order at each QoS."""
    with Client(port, version) as left, Client(port, version) as right:
        root = fresh("m")
        for client in (left, right):
            client.subscribe((f"{root}/{client is left}/+", 2))
        for qos in (0, 1, 2):
            for number in range(int(count)):
                left.paho.publish(f"{root}/False/{qos}", str(number), qos)
                right.paho.publish(f"{root}/True/{qos}", str(number), qos)
        for client in (left, right):
            seen = {0: [], 1: [], 2: []}
            for _ in range(3 * int(count)):
                message = client.message()
                seen[int(message.topic[-1])].append(int(message.payload))
            for qos, numbers in seen.items():
                assert numbers == list(range(int(count))), (qos, numbers[:20])


def retained(port, version):
    topic = fresh("r")
    with Client(port, version) as speaker:
        speaker.publish(topic, "kept", 1, retain=True)
    with Client(port, version) as listener:
        listener.subscribe((topic, 1))
        message = listener.message()
        assert message.payload == b"kept" and message.retain
        listener.publish(topic, b"", 1, retain=True)
        assert listener.message().payload == b""
    with Client(port, version) as late:
        late.subscribe((topic, 1))
        late.silent()


def will(port, version):
    """A lost client's will is published, a leaving client's is not."""
    topic = fresh("w")
    with Client(port, version) as listener:
        listener.subscribe((topic, 1))
        leaving = Client(port, version, will=(topic, "left", 1, False))
        leaving.open()
        leaving.close()
        listener.silent()
        lost = Client(port, version, will=(topic, "lost", 1, False))
        lost.open()
        lost.lose()
        assert listener.message().payload == b"lost"


def session(port, version):
    """What comes while a client is away waits for it, until it wants a fresh start."""
    topic, name = fresh("s"), fresh("away")
    client = Client(port, version, name, clean=False, expiry=300)
    assert not client.open()
    client.subscribe((topic, 1))
    client.close()
    with Client(port, version) as speaker:
        for number in range(5):
            speaker.publish(topic, str(number), 1)
    client = Client(port, version, name, clean=False, expiry=300)
    present = client.open()
    assert present or client.version == mqtt.MQTTv31, "the session is gone"
    assert [client.message().payload for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    client.close()
    client = Client(port, version, name, clean=True)
    assert not client.open()
    with Client(port, version) as speaker:
        speaker.publish(topic, "forgotten", 1)
    client.silent()
    client.close()


def takeover(port, version):
    """A second client of one name ends the first."""
    name = fresh("twin")
    first = Client(port, version, name)
    first.open()
    with Client(port, version, name) as second:
        first.ended.get(timeout=HANG)
        second.subscribe((name, 0))
        second.publish(name, "alive")
        assert second.message().payload == b"alive"
    first.paho.loop_stop()


def large(port, version, size=str(20 << 20)):
    """A payload of megabytes at each QoS, unharmed."""
    payload = hashlib.shake_128(b"seed").digest(1 << 20) * (int(size) >> 20)
    topic = fresh("l")
    with Client(port, version) as listener, Client(port, version) as speaker:
        listener.subscribe((topic, 2))
        for qos in (0, 1, 2):
            speaker.publish(topic, payload, qos)
            got = listener.message().payload
            assert hashlib.sha256(got).digest() == hashlib.sha256(payload).digest(), len(got)
        speaker.publish(topic, "small", 1)
        assert listener.message().payload == b"small"


def pings(port, version):
    """A client that only pings lives longer than its keep-alive."""
    topic = fresh("p")
    with Client(port, version, keepalive=1) as client:
        client.subscribe((topic, 0))
        time.sleep(4)
        assert client.ended.empty()
        client.publish(topic, "alive")
        assert client.message().payload == b"alive"


def five(port, version):
    """What is new in 5.0: user properties, aliases, request and response, sharing."""
    topic = fresh("five")
    with Client(port, version) as one, Client(port, version) as two:
        one.subscribe((topic, 1))
        code = two.publish(
            topic,
            "hello",
            1,
            UserProperty=[("tenant", "acme"), ("tenant", "b")],
            ResponseTopic="answers",
            CorrelationData=b"\x00\x01",
            ContentType="text/plain",
            PayloadFormatIndicator=1,
            MessageExpiryInterval=60,
        )
        assert code == 0
        got = one.message().properties
        assert got.UserProperty == [("tenant", "acme"), ("tenant", "b")]
        assert got.ResponseTopic == "answers" and got.CorrelationData == b"\x00\x01"
        assert two.publish("nobody", "listens", 1) == 0x10
        for qos in (0, 1, 2):
            two.publish(topic, "defines", qos, TopicAlias=1 + qos)
            # paho wants a topic of at least one letter, except from 5.0 on.
            two.publish("", "uses", qos, TopicAlias=1 + qos)
            assert [one.message().payload for _ in range(2)] == [b"defines", b"uses"]
        shared = fresh("shared")
        for client in (one, two):
            client.subscribe((f"$share/group/{shared}", 1))
        with Client(port, version) as speaker:
            for number in range(20):
                speaker.publish(shared, str(number), 1)
        time.sleep(0.5)
        counts = one.messages.qsize(), two.messages.qsize()
        assert sum(counts) == 20 and min(counts) > 0, counts


def storm(port, version, clients="50"):
    """Many clients at once, each of which hears itself and nobody else."""
    failures = queue.Queue()

    def one(number):
        try:
            with Client(port, version) as client:
                topic = fresh(f"storm/{number}")
                client.subscribe((topic, 1))
                for each in range(10):
                    client.publish(topic, f"{number} {each}", each % 3)
                    assert client.message().payload == b"%d %d" % (number, each)
                client.silent(0.1)
        except BaseException as error:  # told to the main thread
            failures.put(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(int(clients))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not failures.empty():
        raise failures.get()


def leaving(port, version, clients="20"):
    """The server stops: each client is served until it is told so, and not all at once."""
    opened = [Client(port, version) for _ in range(int(clients))]
    for client in opened:
        client.open()
        client.subscribe((f"to/{id(client)}", 1))
    print("ready", flush=True)
    ended = []
    while len(ended) < len(opened):
        for client in opened:
            if client in (had for had, _, _ in ended):
                continue
            try:
                flags, code = client.ended.get(timeout=0.02)
            except queue.Empty:
                continue
            ended.append((client, time.monotonic(), (flags.is_disconnect_packet_from_server, code.value)))
    for client, _, told in ended:
        client.paho.loop_stop()
        if version == "5.0":
            assert told == (True, 0x8B), told
        else:
            assert not told[0], told
    times = [when for _, when, _ in ended]
    assert max(times) - min(times) > 1, "all at once"


def where(port, version, names="12", times="4"):
    """A name finds the same server each time, and names find both.

    Each server retains its own name at `server/name`.
    """
    servers = set()
    for number in range(int(names)):
        found = set()
        for _ in range(int(times)):
            with Client(port, version, f"pump-{number}") as client:
                client.subscribe(("server/name", 0))
                found.add(client.message().payload)
        assert len(found) == 1, (number, found)
        servers |= found
    assert len(servers) == 2, servers


def denied_publish(port, version, username=""):
    """To `secret/...` nothing passes; all else does, and the session goes on."""
    with Client(port, version) as listener, Client(port, version, username=username) as speaker:
        listener.subscribe(("secret/#", 2), ("open/#", 2))
        for qos in (0, 1, 2):
            code = speaker.publish(f"secret/{qos}", "no", qos)
            # Paho takes a PUBREC that refuses for one that does not, and goes on to PUBCOMP.
            assert code == (NOT_AUTHORIZED if version == "5.0" and qos == 1 else 0), (qos, code)
            assert speaker.publish(f"open/{qos}", "yes", qos) == 0
            assert listener.message().topic == f"open/{qos}"
        listener.silent()
        assert speaker.ended.empty()


def denied_subscribe(port, version):
    """To `secret/...` nobody subscribes, not even among other filters or sharing."""
    refused = {"3.1": 0, "3.1.1": 0x80, "5.0": NOT_AUTHORIZED}[version]
    with Client(port, version) as client:
        assert client.subscribe(("secret/a", 1)) == [refused]
        assert client.subscribe(("open/a", 1), ("secret/a", 1), ("open/b", 2)) == [refused] * 3
        assert client.subscribe(("$share/group/secret/a", 1)) == [refused]
        assert client.subscribe(("open/c", 1)) == [1]
        for topic in ("secret/a", "open/a", "open/b", "open/c"):
            client.publish(topic, topic, 1)
        assert client.message().topic == "open/c"
        client.silent()
        client.paho.unsubscribe("secret/a")
        codes = client.unsubscribed.get(timeout=HANG)
        assert codes in ([], [0x11], [NOT_AUTHORIZED]), codes


def denied_alias(port, version):
    """An alias is judged as the topic it stands for; one that cannot be defined ends the session."""
    with Client(port, version) as listener:
        listener.subscribe(("secret/#", 1), ("open/#", 1))
        with Client(port, version) as speaker:
            assert speaker.publish("open/a", "1", 1, TopicAlias=1) == 0
            assert speaker.publish("", "2", 1, TopicAlias=1) == 0
            assert [listener.message().payload for _ in range(2)] == [b"1", b"2"]
            speaker.paho.publish("secret/a", "no", 1, properties=properties(PacketTypes.PUBLISH, TopicAlias=1))
            _, code = speaker.ended.get(timeout=HANG)
            assert code.value == NOT_AUTHORIZED, code
        listener.silent()


def denied_connect(port, version):
    """A client called `stranger` is not let in."""
    stranger = Client(port, version, "stranger")
    stranger.paho.connect("127.0.0.1", port, 30, **stranger.options)
    stranger.paho.loop_start()
    _, code = stranger.connected.get(timeout=HANG)
    assert "authorized" in str(code).lower(), code
    stranger.paho.loop_stop()
    with Client(port, version) as friend:
        friend.subscribe(("a", 0))


def denied_properties(port, version):
    """What is published to `changed/...` gets `tenant` and a `hop` more, and loses `secret`;
    in versions that know no user properties it goes no further, and counts as delivered."""
    with Client(port, "5.0") as listener, Client(port, version, "pump-7") as speaker:
        listener.subscribe(("changed/#", 2), ("open/#", 2))
        for qos in (0, 1, 2):
            if version != "5.0":
                assert speaker.publish("changed/a", "no", qos) == 0
                assert speaker.publish("open/a", f"{qos}", qos) == 0
                message = listener.message()
                assert (message.topic, message.payload) == ("open/a", b"%d" % qos)
                continue
            said = [("first", "1"), ("tenant", "forged"), ("hop", "one"), ("secret", "hush"), ("last", "größe")]
            more = {"UserProperty": said, "ContentType": "text/plain", "CorrelationData": b"42"}
            assert speaker.publish("changed/a", "payload", qos, **more) == 0
            message = listener.message()
            assert message.payload == b"payload" and message.qos == qos
            heard = message.properties.UserProperty
            kept = [("first", "1"), ("hop", "one"), ("last", "größe")]
            assert [pair for pair in heard if pair in kept] == kept, heard
            added = [pair for pair in heard if pair not in kept]
            assert sorted(added) == [("hop", "polyport"), ("tenant", "acme-pump-7")], heard
            assert message.properties.ContentType == "text/plain"
            assert message.properties.CorrelationData == b"42"
            # Without any property of its own, and by an alias.
            assert speaker.publish("changed/b", "", qos, TopicAlias=1) == 0
            assert listener.message().topic == "changed/b"
            assert speaker.publish("", "again", qos, TopicAlias=1) == 0
            message = listener.message()
            assert (message.topic, message.payload) == ("changed/b", b"again")
            assert sorted(message.properties.UserProperty) == [("hop", "polyport"), ("tenant", "acme-pump-7")]
            # What is not to be changed is not.
            assert speaker.publish("open/a", "as it was", qos, UserProperty=said) == 0
            assert listener.message().properties.UserProperty == said
        listener.silent()
        assert speaker.ended.empty()


def denied_version(port, version):
    """A client whose CONNECT cannot be changed is not let in."""
    old = Client(port, version)
    old.paho.connect("127.0.0.1", port, 30, **old.options)
    old.paho.loop_start()
    _, code = old.connected.get(timeout=HANG)
    assert "unavailable" in str(code).lower(), code
    old.paho.loop_stop()


if __name__ == "__main__":
    stories = {name: f for name, f in globals().items() if inspect.isfunction(f)}
    stories[sys.argv[1]](int(sys.argv[3]), sys.argv[2], *sys.argv[4:])
