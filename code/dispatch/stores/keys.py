"""The keys that sign requests: renewed before they end, checked, and kept out of every line.

Knows credentials as botocore has them, and requests only by what signs them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dispatch.stores.once import Once
from dispatch.terminal.messages import log
from dispatch.terminal.secrets import keep_secret

if TYPE_CHECKING:
    from awscrt.auth import AwsCredentialsProvider

LAST_MINUTES = 10 * 60  # seconds before their end in which keys are not used, as botocore has it
RENEWAL_PAUSE = (
    60  # seconds between two renewals, unless the keys are refused: some always end soon
)


class Keys:
    """The keys of an account, which are renewed beside the requests that they sign.

    botocore would do so in whichever request comes, and let all others wait: once its keys end
    within a quarter of an hour, each of its calls may wait for a program or a service.
    """

    def __init__(
        self, credentials: Any, frozen: Any, timeout: int, tell: Callable[[Exception], str]
    ) -> None:
        """Sign with the keys that credentials have at first; faults are worded by `tell`."""
        self.credentials, self.timeout, self.tell = credentials, timeout, tell
        self.can_renew = hasattr(credentials, "refresh_needed")  # others follow those that end
        self.renewing: Once[None] = Once()
        self.are_refused = False
        self.frozen: Any = None
        self.provider: AwsCredentialsProvider
        self.hold(frozen)

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
            is_late = self.are_refused or self.credentials.refresh_needed(RENEWAL_PAUSE)
            if is_late or time.monotonic() - self.renewed > RENEWAL_PAUSE:
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
            fault = f"nothing within {self.timeout} s (--timeout)"
            raise OSError(f"no new AWS credentials: {fault}") from None
        except Exception as error:
            raise OSError(f"no new AWS credentials: {self.tell(error)}") from None

    async def ask(self) -> None:
        """Renew the keys, in a thread: to wait for them is botocore's.

        While the old ones serve, botocore tells of no failure.
        """
        old = self.frozen
        self.hold(await asyncio.to_thread(self.credentials.get_frozen_credentials))
        if self.frozen == old:
            log.debug("AWS: asked for new credentials, and got the same")

    def refuse(self, provider: AwsCredentialsProvider | None) -> None:
        """Note that S3 takes these for keys that have ended, whatever they say of themselves."""
        if provider is self.provider:
            self.are_refused = True


def keep_secrets(frozen: Any) -> None:
    """Let no line say any of these keys."""
    for key in (frozen.access_key, frozen.secret_key, frozen.token):
        keep_secret(key)
