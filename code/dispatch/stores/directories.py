"""Directory buckets, which are asked with the keys of a session. Knows what CreateSession answers.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateSession.html
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dispatch.stores.crt import Runtime
from dispatch.stores.keys import Keys
from dispatch.stores.once import Once
from dispatch.stores.places import Answer, Place
from dispatch.terminal.messages import excerpt
from dispatch.terminal.secrets import keep_secret

if TYPE_CHECKING:
    from awscrt.auth import AwsCredentialsProvider

DIRECTORIES = ("--x-s3", "--xa-s3")  # the ends of their names, and of those of access points
LAST_SECONDS = 45  # in which a session is not used, as botocore has it; most last five minutes


@dataclass(frozen=True)
class Session:
    """The keys of a session."""

    provider: AwsCredentialsProvider
    end: float  # in seconds since 1970


class Sessions:
    """The sessions in which directory buckets are asked."""

    def __init__(self, runtime: Runtime, keys: Keys) -> None:
        self.runtime, self.keys = runtime, keys
        self.sessions: dict[Place, Session] = {}
        self.beginning: Once[Session | Answer] = Once()

    async def begin(self, place: Place) -> Session | Answer:
        """Return a session, which the account's own keys ask for, or the answer that is none."""
        asked = replace(place, in_session=False)
        answer = await self.runtime.get(asked, "session", await self.keys.current())
        if answer.status != 200:
            return answer
        self.sessions[place] = read_session(answer.body)  # before anybody can ask again
        return self.sessions[place]

    async def answer(self, place: Place, query: str) -> Answer:
        """Return the answer to a request in a session, or the one with which there is no session.

        Raise NoAnswer, and ValueError for what is no session.
        """
        session: Session | Answer | None = self.sessions.get(place)
        if not isinstance(session, Session) or session.end - time.time() < LAST_SECONDS:
            session = await self.beginning.answer(place, lambda: self.begin(place))
        if isinstance(session, Answer):
            return session
        answer = await self.runtime.get(place, query, session.provider)
        if answer.status in (400, 401, 403) and self.sessions.get(place) is session:
            del self.sessions[place]  # S3 may have ended it, before its time
        return answer


def read_session(body: bytes) -> Session:
    """Return the session that S3 begins; raise ValueError for what is none."""
    from awscrt.auth import AwsCredentialsProvider

    content = body.decode("utf-8", "replace")
    found = dict(re.findall(r"<(\w+)>([^<>]+)</\1>", content))
    try:
        keys = [found[name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")]
        end = datetime.fromisoformat(found["Expiration"])
    except (KeyError, ValueError):
        raise ValueError(f"what S3 answers is not a session, but {excerpt(content)}") from None
    for key in keys:
        keep_secret(key)
    return Session(AwsCredentialsProvider.new_static(*keys), end.replace(tzinfo=UTC).timestamp())
