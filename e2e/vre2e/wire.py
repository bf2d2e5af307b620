"""As much of gRPC as a writer needs: one call after the other over HTTP/2, with nothing but Python.

A call that was carried out answers with a message; whatever else comes (a status without one, a reset, an end) is an
error here, without its reason: this is a witness of acknowledgements and no client for people.
"""

import socket
import ssl
import struct

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END, ACK = 1, 1
HEADERS_WHOLE = 4
ROOM = 1 << 30


def header(name, value):
    """A literal that nobody is to remember, and that is not compressed."""
    return b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


class Connection:
    def __init__(self, address, name, authority=None, timeout=3.0, port=2379):
        self.name = name
        plain = socket.create_connection((address, port), timeout=timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if authority:
            context = ssl.create_default_context(cafile=authority)
            context.set_alpn_protocols(["h2"])
            self.socket = context.wrap_socket(plain, server_hostname=name)
        else:
            self.socket = plain
        self.scheme = "https" if authority else "http"
        self.stream = -1
        self.held = b""
        settings = struct.pack(">HIHI", 4, ROOM, 2, 0)
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(SETTINGS, 0, 0, settings)
                            + self.frame(WINDOW, 0, 0, struct.pack(">I", ROOM)))

    @staticmethod
    def frame(kind, flags, stream, body):
        return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body

    def read(self, length):
        while len(self.held) < length:
            more = self.socket.recv(65536)
            if not more:
                raise OSError("the connection has ended")
            self.held += more
        taken, self.held = self.held[:length], self.held[length:]
        return taken

    def call(self, path, message):
        self.stream += 2
        head = b"".join(header(*pair) for pair in (
            (":method", "POST"), (":scheme", self.scheme), (":path", path), (":authority", self.name),
            ("content-type", "application/grpc"), ("te", "trailers")))
        body = b"\x00" + struct.pack(">I", len(message)) + message
        self.socket.sendall(self.frame(HEADERS, HEADERS_WHOLE, self.stream, head)
                            + self.frame(DATA, END, self.stream, body))
        told, taken = b"", 0
        while True:
            start = self.read(9)
            length, kind, flags = int.from_bytes(start[:3], "big"), start[3], start[4]
            stream = int.from_bytes(start[5:], "big") & 0x7FFFFFFF
            body = self.read(length)
            taken += length
            if kind == SETTINGS and not flags & ACK:
                self.socket.sendall(self.frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self.socket.sendall(self.frame(PING, ACK, 0, body))
            elif kind == GOAWAY or (kind == RESET and stream == self.stream):
                raise OSError("the call was ended by the server")
            elif stream == self.stream and kind in (DATA, HEADERS):
                told += body if kind == DATA else b""
                if flags & END:
                    break
        if taken:
            self.socket.sendall(self.frame(WINDOW, 0, 0, struct.pack(">I", taken)))
        if len(told) < 5:
            raise OSError("the call was refused")
        return told[5:5 + int.from_bytes(told[1:5], "big")]

    def close(self):
        self.socket.close()


# Protocol buffers


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def message(**fields):
    """`f1=b"..."` is field 1; numbers and bytes only."""
    out = b""
    for name, value in fields.items():
        number = int(name[1:])
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            out += varint(number << 3) + varint(value)
    return out


def fields(data):
    """Pairs of a field's number and its value."""
    at = 0

    def number():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
    while at < len(data):
        key = number()
        if key & 7 == 0:
            yield key >> 3, number()
        elif key & 7 == 2:
            length = number()
            yield key >> 3, data[at:at + length]
            at += length
        else:
            raise ValueError(f"a field of a kind that etcd does not use: {key & 7}")
