"""Why no connection comes about: tried once more with Python's own ssl, which says it at once.

AWS's runtime does not tell one reason from another, and after a certificate that does not fit it is
silent for 10 to 30 seconds, on purpose (https://github.com/aws/s2n-tls, "blinding").
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from base64 import b64encode
from urllib.parse import unquote, urlsplit

from dispatch.stores.places import PORTS, NoAnswer, Place, phrase_of
from dispatch.stores.trust import trusting
from dispatch.terminal.messages import echo
from dispatch.terminal.retries import ONE_TRY, may_pass

LONGEST_STATUS = 4_096  # bytes, of what a proxy answers first
PROTOCOL_FAULTS = ("PROTOCOL", "VERSION")  # in the names of those that no other try mends


def find_fault(place: Place, certificates: str, seconds: float) -> NoAnswer | None:
    """Return why no connection to a place comes about, None where nothing is wrong with it."""
    try:
        connect(place, certificates, seconds)
    except NoAnswer as fault:
        return fault
    except (OSError, ValueError):  # which AWS's runtime tells apart itself
        return None
    return None


def connect(place: Place, certificates: str, seconds: float) -> None:
    """Open a connection to a place, and close it; raise NoAnswer, OSError."""
    url, proxy = urlsplit(place.url), urlsplit(place.proxy or "")
    first = proxy if place.proxy else url
    at = (first.hostname or "", first.port or PORTS[first.scheme])
    with socket.create_connection(at, seconds) as line:
        end = time.monotonic() + seconds
        if first.scheme == "https":
            line = shake_hands(line, first.hostname or "", certificates, place)
        if place.proxy and url.scheme == "https":
            open_tunnel(line, place, end)
            shake_hands(line, url.hostname or "", certificates, place)
        line.close()


def shake_hands(line: socket.socket, host: str, certificates: str, place: Place) -> socket.socket:
    """Return a connection on which TLS is spoken; raise NoAnswer, OSError."""
    from urllib3.util.ssltransport import SSLTransport

    shown = place.host if host == urlsplit(place.url).hostname else host
    try:
        if isinstance(line, ssl.SSLSocket):
            SSLTransport(line, trusting(certificates), host)
            return line
        return trusting(certificates).wrap_socket(line, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        fault = f"no TLS with {shown}: its certificate does not fit ({error.verify_message})"
        raise NoAnswer(fault, ONE_TRY) from None
    except ssl.SSLError as error:
        reason = error.reason or str(error)
        is_final = any(word in reason for word in PROTOCOL_FAULTS)
        said = reason.lower().replace("_", " ")
        raise NoAnswer(f"no TLS with {shown}: {said}", ONE_TRY if is_final else None) from None


def open_tunnel(line: socket.socket, place: Place, end: float) -> None:
    """Ask a proxy to connect; raise NoAnswer where it does not, OSError."""
    url, proxy = urlsplit(place.url), urlsplit(place.proxy or "")
    host = f"{url.hostname}:{url.port or PORTS[url.scheme]}"
    request = f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n"
    if proxy.username:
        words = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
        request += f"Proxy-Authorization: Basic {b64encode(words.encode()).decode()}\r\n"
    line.sendall(f"{request}\r\n".encode())
    said = b""
    while b"\r\n\r\n" not in said and len(said) < LONGEST_STATUS and time.monotonic() < end:
        piece = line.recv(1)  # no byte of what comes behind it, which is TLS
        if not piece:
            break
        said += piece
    status_line = re.match(rb"HTTP/1\.[01] (\d{3})\b", said)
    if not status_line:
        raise OSError
    status = int(status_line[1])
    if 200 <= status < 300:
        return
    fault = f"the proxy {place.shown_proxy} refuses to connect: {status} {phrase_of(status)}"
    raise NoAnswer(echo(fault), None if may_pass(status, "") else ONE_TRY)
