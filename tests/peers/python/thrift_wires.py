"""The forms of Thrift, each named TRANSPORT/PROTOCOL: framed, buffered or header;
binary, binary-old or compact."""

from thrift.protocol.TBinaryProtocol import TBinaryProtocolAcceleratedFactory, TBinaryProtocolFactory
from thrift.protocol.TCompactProtocol import TCompactProtocolAcceleratedFactory
from thrift.protocol.THeaderProtocol import THeaderProtocolFactory
from thrift.transport import TTransport
from thrift.transport.THeaderTransport import THeaderClientType, THeaderSubprotocolID

ALL_FORMS = tuple(
    getattr(THeaderClientType, name) for name in dir(THeaderClientType) if name.isupper()
)


def factories(wire):
    """The transport and protocol factories of a form; `any` is a server of all that THeader knows."""
    if wire == "any":
        return TTransport.TTransportFactoryBase(), THeaderProtocolFactory(ALL_FORMS)
    transport, protocol = wire.split("/")
    if transport == "header":
        subprotocol = {"binary": THeaderSubprotocolID.BINARY, "compact": THeaderSubprotocolID.COMPACT}
        headers = THeaderProtocolFactory(default_protocol=subprotocol[protocol])
        return TTransport.TTransportFactoryBase(), headers
    transports = {"framed": TTransport.TFramedTransportFactory, "buffered": TTransport.TBufferedTransportFactory}
    protocols = {
        "binary": TBinaryProtocolAcceleratedFactory,
        "binary-old": lambda: TBinaryProtocolFactory(strictRead=False, strictWrite=False),
        "compact": TCompactProtocolAcceleratedFactory,
    }
    return transports[transport](), protocols[protocol]()
