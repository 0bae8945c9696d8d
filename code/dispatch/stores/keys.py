"""The keys that sign requests: renewed before they end, checked, and kept out of every line.

Knows credentials as botocore has them, and requests only by what signs them.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from typing import TYPE_CHECKING, Any

from dispatch.stores.once import Once
from dispatch.terminal.messages import FailedRun
from dispatch.terminal.secrets import keep_secret

if TYPE_CHECKING:
    from awscrt.auth import AwsCredentialsProvider

NAMES = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
LAST_MINUTES = 10 * 60  # seconds before their end in which keys are not used, as botocore has it
PAUSE = 60  # seconds between two renewals, unless the keys are refused: some always end soon


class Keys:
    """The keys of an account, which are renewed beside the requests that they sign.

    botocore would do so in whichever request comes, and let all others wait: once its keys end
    within a quarter of an hour, each of its calls may wait for a program or a service.
    """

    def __init__(self, credentials: Any, timeout: int) -> None:
        """Wait for the first keys; raise FailedRun for such as no request can carry."""
        self.credentials, self.timeout = credentials, timeout
        self.can_renew = hasattr(credentials, "refresh_needed")  # others follow those that end
        self.renewing: Once[None] = Once()
        self.are_refused = False
        self.frozen: Any = None
        self.provider: AwsCredentialsProvider
        self.hold(credentials.get_frozen_credentials())
        check_keys(self.frozen)

    def hold(self, frozen: Any) -> None:
        """Sign with these from here on."""
        from awscrt.auth import AwsCredentialsProvider

        self.renewed = time.monotonic()
        if frozen != self.frozen:
            keep_secrets(frozen)
            self.provider = AwsCredentialsProvider.new_static(
                frozen.access_key, frozen.secret_key, frozen.token
            )
            self.frozen = frozen
            self.are_refused = False

    async def current(self) -> AwsCredentialsProvider:
        """Return what signs a request; raise OSError where the keys end and no others come."""
        if self.can_renew and self.credentials.refresh_needed():
            is_late = self.are_refused or self.credentials.refresh_needed(PAUSE)
            if is_late or time.monotonic() - self.renewed > PAUSE:
                await self.renew(is_late or self.credentials.refresh_needed(LAST_MINUTES))
        return self.provider

    async def renew(self, is_to_wait: bool) -> None:
        """Begin to renew the keys, unless that is under way; wait for it where there is need."""
        if not is_to_wait:
            self.renewing.begin("keys", self.ask)
            return
        try:
            await self.renewing.answer("keys", self.ask, self.timeout)
        except TimeoutError:
            raise OSError(
                f"no new AWS credentials: nothing within {self.timeout} s (--timeout)"
            ) from None

    async def ask(self) -> None:
        """Renew the keys, in a thread: to wait for them is botocore's."""
        self.hold(await asyncio.to_thread(self.credentials.get_frozen_credentials))

    def refuse(self, provider: AwsCredentialsProvider | None) -> None:
        """Note that S3 takes these for keys that have ended, whatever they say of themselves."""
        if provider is self.provider:
            self.are_refused = True


def keep_secrets(frozen: Any) -> None:
    """Let no line say any of these keys."""
    for key in (frozen.access_key, frozen.secret_key, frozen.token):
        keep_secret(key)


def check_keys(frozen: Any) -> None:
    """Raise FailedRun for keys that no request can carry."""
    for name, key in zip(NAMES, frozen, strict=False):
        if key is None or (key and key == key.strip() and not re.search(r"[\x00-\x1f\x7f]", key)):
            continue
        if not key and name == "AWS_SESSION_TOKEN":  # there is none
            continue
        where = f"${name}" if os.environ.get(name) == key else f"the {name.lower()}"
        if not key.strip():
            raise FailedRun(f"AWS: {where} is blank: give it, or take the others away, too")
        what = "has a blank at its ends, or a line break in it"
        if key.rstrip("\r\n") != key:
            what = "ends in a line break"
        raise FailedRun(f"AWS: {where} {what}: write it without")
