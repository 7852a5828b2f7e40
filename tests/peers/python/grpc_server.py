"""A gRPC server. usage: grpc_server.py PORT NAME [CERT KEY]

Messages are google.protobuf.BytesValue. Services `polyport.test.Echo` and
`polyport.test.Other` have the same methods. So has it gRPC's own health service, whose
word on `polyport.test.Echo` the method `Ail` takes back and `Recover` gives again.
"""

import sys
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import wrappers_pb2
from google.protobuf.any_pb2 import Any
from google.rpc import status_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

port, name, *secure = sys.argv[1:]
cancelled = 0
lock = threading.Lock()


def value(data):
    return wrappers_pb2.BytesValue(value=data)


def noting_cancellation(context):
    def ended():
        global cancelled
        if context.code() is None and not context.done_well:
            with lock:
                cancelled += 1

    context.done_well = False
    context.add_callback(ended)


def unary(request, context):
    return request


def who(request, context):
    return value(name.encode())


def down(request, context):
    """COUNT messages of SIZE bytes."""
    count, size = map(int, request.value.split())
    for number in range(count):
        yield value(number.to_bytes(4, "big") + bytes(size - 4))


def up(requests, context):
    """How many messages came, and how many bytes."""
    count = size = 0
    for request in requests:
        count, size = count + 1, size + len(request.value)
    return value(f"{count} {size}".encode())


def lazy_up(requests, context):
    """The same, after a nap."""
    time.sleep(4)
    return up(requests, context)


def both(requests, context):
    """Each message back as it comes."""
    noting_cancellation(context)
    for request in requests:
        yield request
    context.done_well = True


def metadata(request, context):
    got = dict(context.invocation_metadata())
    echo = tuple((key, got[key]) for key in ("x-one", "x-two-bin", "x-set-by-proxy") if key in got)
    context.send_initial_metadata((("x-initial", "first"), ("x-initial-bin", bytes(range(256)))) + echo)
    context.set_trailing_metadata((("x-trailing", "last"), ("x-trailing-bin", b"\0\xff")))
    return value(f"{sorted(got)}".encode())


def fail(request, context):
    """CODE MESSAGE."""
    code, message = request.value.decode().split(" ", 1)
    code = next(each for each in grpc.StatusCode if each.value[0] == int(code))
    context.abort(code, message)


def fail_late(request, context):
    for number in range(3):
        yield value(str(number).encode())
    context.set_trailing_metadata((("x-reason", "late"),))
    context.abort(grpc.StatusCode.DATA_LOSS, "after three")


def fail_richly(request, context):
    detail = Any()
    detail.Pack(value(b"a detail"))
    status = status_pb2.Status(code=9, message="richly", details=[detail])
    context.abort_with_status(rpc_status.to_status(status))


def slow(request, context):
    """After so many milliseconds."""
    noting_cancellation(context)
    until = time.time() + int(request.value) / 1000
    while time.time() < until and context.is_active():
        time.sleep(0.01)
    context.done_well = context.is_active()
    return value(b"slow")


def patience(request, context):
    """How many milliseconds the caller still waits."""
    return value(str(int(context.time_remaining() * 1000)).encode())


def given_up(request, context):
    return value(str(cancelled).encode())


def ail(request, context):
    return says(health_pb2.HealthCheckResponse.NOT_SERVING)


def recover(request, context):
    return says(health_pb2.HealthCheckResponse.SERVING)


def says(status):
    healths.set("polyport.test.Echo", status)
    return value(b"done")


def handlers():
    loads, dumps = wrappers_pb2.BytesValue.FromString, wrappers_pb2.BytesValue.SerializeToString
    kinds = {
        grpc.unary_unary_rpc_method_handler: (unary, who, metadata, fail, fail_richly, slow, patience, given_up, ail, recover),
        grpc.unary_stream_rpc_method_handler: (down, fail_late),
        grpc.stream_unary_rpc_method_handler: (up, lazy_up),
        grpc.stream_stream_rpc_method_handler: (both,),
    }
    methods = {}
    for kind, functions in kinds.items():
        for function in functions:
            title = "".join(word.capitalize() for word in function.__name__.split("_"))
            methods[title] = kind(function, request_deserializer=loads, response_serializer=dumps)
    return methods


server = grpc.server(
    futures.ThreadPoolExecutor(64),
    options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
)
for service in ("polyport.test.Echo", "polyport.test.Other"):
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers())])
healths = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(healths, server)
says(health_pb2.HealthCheckResponse.SERVING)
address = f"127.0.0.1:{port}"
if secure:
    cert, key = (open(path, "rb").read() for path in secure)
    assert server.add_secure_port(address, grpc.ssl_server_credentials([(key, cert)]))
else:
    assert server.add_insecure_port(address)
server.start()
print("ready", flush=True)
server.wait_for_termination()
