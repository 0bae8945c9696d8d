"""Whose certificates are trusted: a file of them, as OpenSSL reads it."""

from __future__ import annotations

import re
import ssl
from binascii import Error, a2b_base64
from contextlib import suppress
from pathlib import Path

from dispatch.terminal.messages import FailedRun, reason_of

BLOCK = re.compile(
    rb"-----BEGIN (TRUSTED |X509 )?CERTIFICATE-----(.*?)-----END \1?CERTIFICATE-----", re.DOTALL
)


def trusting(certificates: str) -> ssl.SSLContext:
    """Return how Python's own ssl speaks with whom a file of certificates trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(certificates)
    return context


def read_certificates(path: str) -> bytes:
    """Return the certificates of a file, all in the one form that any reader knows.

    OpenSSL reads those that say what they are trusted for, too, which stands behind each; AWS's
    runtime does not. Raise FailedRun for a file that is not there, or in which there are none.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        why = error.strerror or reason_of(error)
        raise FailedRun(f"AWS: there is no file of certificates {path} ({why})") from None
    found = []
    for block in BLOCK.finditer(content):
        with suppress(Error, IndexError):  # which OpenSSL passes over, too
            found.append(ssl.DER_cert_to_PEM_cert(first_value(a2b_base64(block[2]))))
    if not found:
        raise FailedRun(f"AWS: there are no certificates in the file {path}")
    return "".join(found).encode()


def first_value(content: bytes) -> bytes:
    """Return the first of the values that follow each other in DER: its tag, length and content."""
    length, start = content[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(content[2:start], "big")
    return content[: start + length]
