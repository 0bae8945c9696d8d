"""Secrets: which there are, and how none of them stands in a line, in whatever spelling."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from urllib.parse import quote

SECRETS = (  # in the environment
    *("CODEOCEAN_API_TOKEN", "GIT_ACCESS_TOKEN"),
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)
SHORTEST_SECRET = 6  # characters: what is shorter stands in many words
USER = r"[^\s:/@'\"]+:(?!//)\S*@|(?<=://)[^\s/@]+@"  # and password, before a host
SIGNATURE = r"\b[0-9a-fA-F]{64}\b"
known_secrets: set[str] = set()  # in every spelling


def keep_secret(secret: str | None) -> None:
    """Let a secret, as it is or encoded, stand in no line from here on."""
    secret = (secret or "").strip()
    if len(secret) >= SHORTEST_SECRET:
        known_secrets.update((secret, quote(secret, safe=""), *in_base64(secret)))


def keep_secrets_of_environment() -> None:
    """Let no line say a token of the environment, or a password in an address in it."""
    for name, value in os.environ.items():
        if name in SECRETS:
            keep_secret(value)
        elif re.search("(?i)proxy$|ENDPOINT_URL|HOST$|DOMAIN$", name):
            password = re.search(r"[^\s:/@]+:(?!//)(\S*)@", value)
            if password:  # and its parts, where a slash ends what is taken for a host
                for part in (password[1], *password[1].split("/")):
                    keep_secret(part)


def in_base64(secret: str) -> list[str]:
    """Return what base64 makes of a secret, whatever stands before and behind it."""
    spellings = []
    for before in range(3):  # bytes of the first group that are not the secret's
        whole = b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        inner = whole[(0, 2, 3)[before] : -1]  # characters that are made of the secret alone
        if len(inner) >= SHORTEST_SECRET:
            spellings.append(inner)
    return spellings


def without_secrets(string: str) -> str:
    """Return a string without any of the keys and tokens that are in use."""
    for secret in sorted(known_secrets, key=len, reverse=True):
        string = string.replace(secret, "...")
    return string


def without_what_looks_secret(string: str) -> str:
    """Return a string without a user and password before a host, and without signatures."""
    return re.sub(SIGNATURE, "...", re.sub(USER, "...@", string))
