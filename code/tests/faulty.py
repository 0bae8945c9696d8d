"""A server on loopback that goes wrong in one way at one step of a protocol."""

from __future__ import annotations

import random
import socket
import ssl
import struct
import threading
from contextlib import suppress

STEPS = ("connect", "tunnel", "tls", "status", "headers", "body", "trailers")
FAULTS = ("stalls", "drips", "endless", "cut", "garbage")
LONGEST = 100  # seconds that a connection is kept
# What has been answered when a step begins, and what a step without an end is made of.
BEFORE = {
    "tunnel": b"",
    "status": b"",
    "headers": b"HTTP/1.1 200 OK\r\n",
    "body": b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n",
    "trailers": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n",
}
PIECES = {
    "tls": b"\x16\x03\x03\x3f\x00\x02\x00\x3e\xfc\x03\x03" + b"\x00" * 16_000,  # a ServerHello
    "status": b"HTTP/1.1 200 " + b"O" * 60_000,
    "tunnel": b"HTTP/1.1 200 " + b"O" * 60_000,
    "headers": b"X-Long: " + b"x" * 1_000 + b"\r\n",
    "trailers": b"X-Long: " + b"x" * 1_000 + b"\r\n",
}


class Faulty:
    """A server that does something wrong with each connection, at one step of the protocol."""

    def __init__(self, step: str, fault: str, tls: ssl.SSLContext | None = None) -> None:
        self.step, self.fault, self.tls = step, fault, tls
        self.over = threading.Event()
        self.kept: list[socket.socket] = []
        self.listener = socket.create_server(
            ("127.0.0.1", 0), backlog=0 if step == "connect" else 99
        )
        self.port = self.listener.getsockname()[1]
        if step != "connect":
            threading.Thread(target=self.accept, daemon=True).start()
        elif fault == "cut":  # nobody listens
            self.listener.close()
        else:  # so many wait to be accepted that the system lets nobody else connect
            for _ in range(3):
                waiting = socket.socket()
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", self.port))
                self.kept.append(waiting)

    def close(self) -> None:
        """Let go of all connections."""
        self.over.set()
        for kept in (self.listener, *self.kept):
            kept.close()

    def accept(self) -> None:
        """Serve all connections."""
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=[connection], daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        """Answer as far as the step at which it goes wrong."""
        with suppress(OSError), connection:
            connection.settimeout(LONGEST)
            if self.step == "tunnel":
                read_request(connection)
            elif self.step != "tls":
                if self.tls:
                    connection = self.tls.wrap_socket(connection, server_side=True)
                read_request(connection)
            connection.sendall(BEFORE.get(self.step, b""))
            self.go_wrong(connection)

    def go_wrong(self, connection: socket.socket) -> None:
        """Do at a step what is not to be done."""
        chance = random.Random(f"{self.step} {self.fault}")  # noqa: S311
        piece = PIECES.get(self.step, b" " * 60_000)
        if self.fault == "stalls":
            self.over.wait(LONGEST)
        elif self.fault == "drips":
            for number in range(10 * LONGEST):
                connection.sendall(piece[number % len(piece) :][:1])
                if self.over.wait(0.1):
                    break
        elif self.fault == "endless":
            if self.step == "tls":
                piece = chance.randbytes(60_000)
            connection.sendall(piece)
            more = piece if self.step not in ("status", "tunnel") else b"O" * 60_000
            while not self.over.is_set():
                connection.sendall(more)
        elif self.fault == "cut":
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            connection.sendall(chance.randbytes(500))


def read_request(connection: socket.socket) -> None:
    """Read a request, with its body."""
    content = b""
    while b"\r\n\r\n" not in content:
        piece = connection.recv(65_536)
        if not piece:
            raise ConnectionError
        content += piece
    head, _, body = content.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        body += connection.recv(65_536)
