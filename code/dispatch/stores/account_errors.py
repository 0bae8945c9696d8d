"""How it is told that keys, a profile or a setting of AWS's do not serve, and what to do then.

Knows where AWS's tools keep their settings, and what botocore says of them.
"""

from __future__ import annotations

import getpass
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from dispatch.terminal.messages import FailedRun, echo, excerpt, reason_of

BLOCKS = ("s3", "api_versions")  # settings that are several, each on a line of its own
NO_SIGN_REQUEST = "public buckets can be read without: --no_sign_request 1"


def told_by(error: Exception, core: Any) -> str:
    """Return what is wrong by an error that came while keys or settings were read.

    What a program for credentials says is not repeated.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    if "custom-process" in str(error):
        return "the credential_process of the profile fails: run it by hand to see why"
    said = echo(reason_of(error))
    if isinstance(error, BotoCoreError | ClientError | OSError):
        return said
    name, value = block_without_lines(core)
    if name:
        return (
            f"{name} of {source_of(core)} must be several settings, each on a line below it that"
            f" begins with a blank, not {excerpt(value)}"
        )
    return f"{said} (by {source_of(core)}, or by the environment)"


def block_without_lines(core: Any) -> tuple[str, str]:
    """Return a setting that should be several and is a word, and that word; else nothing."""
    with suppress(Exception):  # the profile itself is not there
        settings = core.get_scoped_config()
        for name in BLOCKS:
            if isinstance(settings.get(name), str):
                return name, settings[name]
    return "", ""


def source_of(core: Any, method: str = "") -> str:
    """Return which profile in which file settings are from, or keys that botocore found so."""
    name = "credentials_file" if method == "shared-credentials-file" else "config_file"
    file = Path(os.path.expanduser(core.get_config_variable(name)))
    return f"profile {core.profile or 'default'!r} in {file}"


def check_keys(frozen: Any, method: str, core: Any) -> None:
    """Raise FailedRun for keys that no request can carry."""
    names = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    for name, key in zip(names, frozen, strict=False):
        if not key and name == "aws_session_token":  # as most have none
            continue
        if key and key == key.strip() and not re.search(r"[\x00-\x1f\x7f]", key):
            continue
        where = f"the {name} of {method}"
        if os.environ.get(name.upper()) == key:
            where = f"${name.upper()}"
        elif method.endswith("-file"):
            where = f"the {name} of {source_of(core, method)}"
        if not key or not key.strip():
            raise FailedRun(f"AWS: {where} is blank: give all keys, or none")
        what = "has a blank at its ends, or a line break in it"
        if key.rstrip("\r\n") != key:
            what = "ends in a line break"
        raise FailedRun(f"AWS: {where} {what}: write it without")


def ask_for_code(prompt: str) -> str:
    """Return the code that a role asks for; raise OSError where nobody can give it."""
    terminal = sys.stdin.isatty()
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR))
        terminal = True
    if not terminal:
        raise OSError(
            "the role of the profile asks for an MFA code, and there is no terminal to give it on:"
            " begin a session elsewhere (aws sts get-session-token), and give its keys"
        )
    return getpass.getpass(prompt)


def hint_on(error: Exception) -> str:
    """Return what to do about what AWS or S3 said, where that is known."""
    said = f"{type(error).__name__} {error}"
    if "InvalidConfig" in said:
        return ""
    if re.search(r"(?i:\bsso\b|SSOToken)|Login|ExpiredToken|TokenRefreshRequired", said):
        log_in = "log in again (aws sso login, aws login), or renew the credentials"
        return f"; {log_in}; {NO_SIGN_REQUEST}"
    if re.search("Access ?Denied|Forbidden|InvalidAccessKeyId|SignatureDoesNot", said):
        check = "check the AWS credentials, and that they may list this bucket"
        return f"; {check}; {NO_SIGN_REQUEST}"
    return ""
