"""The gRPC services that the examples speak of.

usage: shop_grpc.py serve PORT NAME                    every method answers "NAME service.method route"
       shop_grpc.py call PORT SERVICE METHOD [KEY=VALUE ...]   prints the answer, or the status
"""

import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

SERVICES = ("shop.Orders", "shop.Stock", "shop.StockAudit")


class Shop(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name = name

    def service(self, details):
        service, method = details.method.lstrip("/").split("/")
        if service not in SERVICES:
            return None
        metadata = dict(details.invocation_metadata)

        def answer(request, context):
            route, debug = metadata.get("x-route", "-"), "x-debug" in metadata
            return f"{self.name} {service}.{method} {route} {debug}".encode()

        return grpc.unary_unary_rpc_method_handler(answer)


def serve(port, name):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Shop(name),))
    states = health.HealthServicer()
    for service in ("", *SERVICES):
        states.set(service, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(states, server)
    assert server.add_insecure_port(f"127.0.0.1:{port}") == int(port)
    server.start()
    print("ready")
    server.wait_for_termination()


def call(port, service, method, *metadata):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            answer = channel.unary_unary(f"/{service}/{method}")(
                b"", timeout=30, metadata=[tuple(pair.split("=", 1)) for pair in metadata]
            )
            print(answer.decode())
        except grpc.RpcError as error:
            print(error.code().name)


{"serve": serve, "call": call}[sys.argv[1]](*sys.argv[2:])
