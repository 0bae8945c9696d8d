"""S3 as a store: what is asked, page by page, what the answer is, and what is tried again.

Who asks and where, `aws` knows; how requests travel, `crt`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree

from dispatch.stores.account_errors import hint_on
from dispatch.stores.aws import Account
from dispatch.stores.crt import Runtime
from dispatch.stores.directories import DIRECTORIES, Sessions
from dispatch.stores.locations import Chain, Page
from dispatch.stores.once import Once
from dispatch.stores.places import Answer, Place, phrase_of
from dispatch.stores.servers import Orders
from dispatch.terminal.messages import FailedRun, echo, excerpt, log, reason_of
from dispatch.terminal.retries import TRIES, Attempts, SlowDown, may_pass

LARGEST_PAGE = 16_000_000  # bytes: 1,000 keys of 1,024 bytes, each as %XX, with all that S3 adds
ELSEWHERE = re.compile(  # codes with which S3 says that a bucket is in another region
    "<Code>(PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException)<"
)


class S3:
    """The store of s3:// locations."""

    def __init__(
        self,
        timeout: int,
        no_sign_request: bool = False,
        keys_in_order: bool | None = None,  # None: where the server is known to keep their order
        **_: object,
    ) -> None:
        self.timeout, self.no_sign_request = timeout, no_sign_request
        self.orders = Orders(keys_in_order)
        self.refusals = 0  # SlowDown
        self.is_open = False
        self.account: Account
        self.runtime: Runtime
        self.places: dict[str, Place] = {}  # by bucket
        self.opening = asyncio.Lock()
        self.finding: Once[Place] = Once()
        self.sessions: Sessions

    async def open(self) -> None:
        """Look for credentials, region and endpoint, once; raise FailedRun."""
        if self.is_open:
            return
        async with self.opening:
            if self.is_open:
                return
            longest = TRIES * self.timeout  # AWS's tools retry on their own
            try:
                finding = asyncio.to_thread(Account, self.timeout, self.no_sign_request)
                self.account = await asyncio.wait_for(finding, longest)
            except TimeoutError:
                raise FailedRun(f"AWS: no credentials in {longest} s") from None
            self.runtime = Runtime(self.account.certificates, self.timeout, LARGEST_PAGE)
            if self.account.keys:
                self.sessions = Sessions(self.runtime, self.account.keys)
            self.is_open = True

    async def close(self) -> None:
        """Close the connections."""
        if self.is_open:
            self.runtime.close()

    def url_of(self, location: str, path: str) -> str:
        """Return the URL of a file, by its path below the location."""
        return f"{location}/{path}"

    async def list_page(
        self, location: str, folder: str, *, after: str | None, token: str, level: bool
    ) -> Page:
        """Return a page of what lies in a folder below a location, after a path; raise OSError."""
        page = await self.ask_page(location, folder, after=after, token=token, level=level)
        self.orders.is_broken |= page.breaks_order
        return page

    async def ask_page(
        self, location: str, folder: str, *, after: str | None, token: str, level: bool
    ) -> Page:
        """Return a page, of which it is not kept in mind whether it breaks the order of keys.

        What may be transient is tried again, after a pause that grows.
        """
        bucket, _, prefix = location.partition("://")[2].partition("/")
        top = f"{prefix}/".lstrip("/")  # nothing, for a whole bucket
        last = "" if after is None else f"{top}{after}"
        query = listing_query(f"{top}{folder}", last, token, level)

        async def ask() -> Page:
            answer = await self.ask(bucket, query)
            page = read_page(answer.body, last, len(top), f"{top}{folder}")
            is_jump = bool(last) and not token
            return self.orders.judge(page, bucket, self.places[bucket], answer, is_jump=is_jump)

        attempts = Attempts()
        while True:
            try:
                return await self.try_page(ask)
            except OSError as error:
                fault, hint = echo(reason_of(error)), hint_on(error)
                pause, is_usual = attempts.pause_after(error), attempts.is_usual(error)
                self.refusals += isinstance(error, SlowDown)
            if pause is None:
                raise OSError(f"{fault}{hint}")
            severity = logging.DEBUG if is_usual else logging.WARNING
            log.log(severity, "%s: %s; retrying in %.1f s", location, fault, pause)
            await asyncio.sleep(pause)

    async def size_of(self, location: str) -> int | None:
        """Return the bytes of the object that is at a location itself, None if there is none.

        Of a directory bucket, no beginning of a name can be asked for, but for whole folders.
        """
        folder, _, name = location.rpartition("/")
        beginning = "" if location.split("/")[2].endswith(DIRECTORIES) else name
        token, chain = "", Chain()
        while True:
            page = await self.ask_page(folder, beginning, after=None, token=token, level=True)
            chain.check(page)
            token = page.token
            if name in page.sizes or not token:
                return page.sizes.get(name)

    async def try_page(self, ask: Callable[[], Awaitable[Page]]) -> Page:
        """Return a page; raise OSError where there is none."""
        if not self.is_open:
            await self.open()
        try:
            page = await ask()
            if page.breaks_order:  # or it is an answer to another question, by a fault that passes
                page = await ask()
            return page
        except TimeoutError:
            raise OSError(f"nothing within {self.timeout} s (--timeout)") from None
        except (FailedRun, OSError):
            raise
        except Exception as error:  # of botocore, which renews keys, and of read_page
            raise OSError(reason_of(error)) from None

    async def ask(self, bucket: str, query: str) -> Answer:
        """Return what S3 answers to a request for a bucket, in the region where it says that is."""
        place = self.places.get(bucket) or await self.find_place(bucket)
        answer = await self.answer(place, query)
        if answer.status != 200:
            region = await self.region_in(answer, bucket, place)
            if region and region != place.region:
                place = await self.find_place(bucket, region)
                answer = await self.answer(place, query)
        can_renew = place.in_session or bool(self.account.keys and self.account.keys.can_renew)
        check_answer(answer, bucket, can_renew=can_renew)
        return answer

    async def answer(self, place: Place, query: str, method: str = "GET") -> Answer:
        """Return the answer to a request, which is signed if there are credentials."""
        keys = self.account.keys
        if not keys:
            return await self.runtime.get(place, query, None, method)
        if place.in_session:
            return await self.sessions.answer(place, query)
        provider = await keys.current()
        answer = await self.runtime.get(place, query, provider, method)
        if answer.status in (400, 403) and b"<Code>ExpiredToken</Code>" in answer.body:
            keys.refuse(provider)
        return answer

    async def find_place(self, bucket: str, region: str | None = None) -> Place:
        """Return where a bucket is asked, which is looked for once for each region.

        That is done in a thread, since botocore may read files, or wait.
        """
        known = self.places.get(bucket)
        if known and known.region == region:  # another request has been sent there, too
            return known

        async def find() -> Place:
            place = await asyncio.to_thread(self.account.place_of, bucket, region)
            self.places[bucket] = place  # before anybody can ask again
            return place

        return await self.finding.answer((bucket, region), find, self.timeout)

    async def region_in(self, answer: Answer, bucket: str, place: Place) -> str | None:
        """Return the region in which S3 says that a bucket is, None if it says nothing of that.

        As boto3 has it: in a header, else in the body, else HEAD tells it.
        """
        body = answer.body.decode("utf-8", "replace")
        if answer.status not in (301, 302, 307) and not ELSEWHERE.search(body):
            return None
        region = answer.header("x-amz-bucket-region")
        named = re.search("<Region>([^<]+)</Region>", body)
        if not region and named:
            region = named[1]
        if not region and not place.in_session:  # a directory bucket is where its name says
            head = await self.answer(place, "", "HEAD")
            region = head.header("x-amz-bucket-region")
        is_name = region and re.fullmatch("[a-z0-9-]{1,63}", region)
        return region if is_name else None


# ------------------------------------------------------------------------------- request and answer


def listing_query(prefix: str, after: str, token: str, level: bool) -> str:
    """Return the query of a request to list what begins with a prefix."""
    query = f"prefix={quote(prefix)}"
    if after and not token:
        query += f"&start-after={quote(after)}"
    if level:
        query += "&delimiter=/"
    # url: there are keys that XML cannot spell
    query += "&list-type=2&encoding-type=url"
    if token:
        query += f"&continuation-token={quote(token)}"
    return query.replace("/", "%2F")  # quicker than to quote the slashes too


def check_answer(answer: Answer, bucket: str, *, can_renew: bool) -> None:
    """Raise OSError for an error that S3 answers, PermissionError where a retry is no use."""
    if answer.status == 200:
        return
    content = answer.body.decode("utf-8", "replace")
    code = re.search(r"<Code>(\w+)</Code>(?:.*<Message>([^<]*)</Message>)?", content, re.DOTALL)
    name = ""
    fault = f"{answer.status} {phrase_of(answer.status)}"
    if code:
        fault, name = f"{code[1]}: {code[2]}", code[1]
    if name == "NoSuchBucket":
        raise FailedRun(f"there is no S3 bucket {bucket!r}")
    if name == "SlowDown":
        raise SlowDown(fault)
    if may_pass(answer.status, name) or (can_renew and name == "ExpiredToken"):
        raise OSError(fault)
    raise PermissionError(fault)


# An object as AWS words it, which an XML parser takes four times as long to read.
OBJECT = re.compile(
    r"<Contents><Key>([^<]+)</Key><LastModified>[^<]*</LastModified><ETag>[^<]*</ETag>"
    r"(?:<Checksum\w+>[^<]*</Checksum\w+>)*<Size>(\d{1,19})</Size>"
    r"<StorageClass>\w+</StorageClass></Contents>",
    re.ASCII,
)


# What is before and behind the objects of a page of AWS's: an element for each thing it says.
START = re.compile(
    r'(?:<\?xml [^<>]*\?>\s*)?<ListBucketResult(?: xmlns="[^"<>&]*")?>'
    r"(?:<(\w+)>[^<&]*</\1>|<\w+/>)*",
    re.ASCII,
)
END = re.compile(r"(?:<(\w+)>[^<&]*</\1>|<\w+/>)*</ListBucketResult>\s*", re.ASCII)
ELEMENT = re.compile(r"<(\w+)>([^<&]*)</\1>", re.ASCII)


@dataclass
class Words:
    """What a page says: each thing by its name, and what it lists."""

    said: dict[str, str]
    keys: list[str]
    sizes: list[int]
    folders: list[str]


def read_page(body: bytes, last: str, top: int = 0, prefix: str = "") -> Page:
    """Return a page as S3 words it; raise ValueError for anything else, such as a proxy's page.

    What lies outside of the prefix is the answer to another question. A page is in order if its
    keys and folders are, and come after `last`. The first `top` characters of keys are left off.
    """
    words = read_plainly(body) or parse(body)
    truncated, token = words.said.get("IsTruncated"), words.said.get("NextContinuationToken", "")
    if truncated != "false" and not (truncated == "true" and token):
        raise ValueError("what S3 answers is not a listing: it does not say whether it goes on")
    decode: Callable[[str], str] = str
    if words.said.get("EncodingType") == "url":
        decode = unquote_plus
    keys = list(map(decode, words.keys))
    folders = list(map(decode, words.folders))
    in_order = keys == sorted(keys) and folders == sorted(folders)
    in_order = in_order and all(first > last for first in (*keys[:1], *folders[:1]))
    ends = [*keys, *folders]
    if in_order:
        ends = [*keys[:1], *keys[-1:], *folders]  # keys between two with a prefix have it, too
    if not all(end.startswith(prefix) for end in ends) or prefix in folders:
        raise ValueError(f"what S3 answers is not below {excerpt(prefix)}")
    about = decode(words.said["Prefix"]) if "Prefix" in words.said else prefix
    if prefix and about != prefix and about != quote(prefix):
        raise ValueError(f"what S3 answers is not about {excerpt(prefix)}")
    paths = [key[top:] for key in keys]
    if truncated == "false":
        token = ""
    below = [folder[top:] for folder in folders]
    return Page(dict(zip(paths, words.sizes, strict=True)), below, token, in_order)


def read_plainly(body: bytes) -> Words | None:
    """Return what a page says that is worded as AWS does, without folders; None for another one."""
    try:
        start, *objects = OBJECT.split(body.decode())  # a key, a size, what follows, and again
    except UnicodeError:
        return None
    keys, between, end = objects[::3], objects[2:-1:3], objects[-1:]
    if any(between) or not end:  # objects apart: in a comment, or inside of something else
        return None
    if "&" in "".join(keys):  # one call: the regular expression takes a third longer for [^<&]
        return None
    elements = ELEMENT.findall(start) + ELEMENT.findall(end[0])
    said = dict(elements)
    if not START.fullmatch(start) or not END.fullmatch(end[0]) or len(said) < len(elements):
        return None
    return Words(said, keys, list(map(int, objects[1::3])), [])


def parse(body: bytes) -> Words:
    """Return what a page says, however it is worded; raise ValueError if it is no listing."""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError as error:
        raise ValueError(f"what S3 answers is not a listing: {error}") from None
    space = root.tag.removesuffix("ListBucketResult")
    if space == root.tag:
        raise ValueError(f"what S3 answers is not a listing, but {excerpt(root.tag)}")
    words = Words({}, [], [], [])
    for element in reversed(root):  # of two that say the same, the first
        words.said[element.tag.removeprefix(space)] = element.text or ""
    for item in root.iterfind(f"{space}Contents"):
        words.keys.append(item.findtext(f"{space}Key") or "")
        size = item.findtext(f"{space}Size") or ""
        if not re.fullmatch("[0-9]{1,19}", size):
            raise ValueError(f"what S3 answers is not a listing: a size is {excerpt(size)}")
        words.sizes.append(int(size))
    for prefix in root.iterfind(f"{space}CommonPrefixes/{space}Prefix"):
        words.folders.append(prefix.text or "")
    return words
