"""S3 as a store: all of its HTTP, from credentials and endpoint to the page. Knows no asset.

boto3 finds credentials, region and endpoint, as for every AWS tool; the requests are made here.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree

from dispatch.locations import Page
from dispatch.messages import FailedRun, excerpt, log, reason_of, without_secrets
from dispatch.retry import TRIES, backoff

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

LIST_TRIES = 7  # of a request to S3
LONGEST_LIST_PAUSE = 3  # seconds
LONGEST_SLOW_DOWN = 300  # seconds that S3 may answer a request with SlowDown
STEPS_OF_SLOW_DOWN = 5  # by which the first pauses are shorter there: others are served


class S3:
    """The store of s3:// locations."""

    def __init__(self, timeout: int, connections: int) -> None:
        self.timeout, self.connections = timeout, connections
        self.slowed_down = False
        self.is_open = False
        self.account: Account
        self.session: ClientSession
        self.buckets: dict[str, Bucket] = {}
        self.opening = asyncio.Lock()

    async def open(self) -> None:
        """Look for credentials, region and endpoint, once; raise FailedRun."""
        if self.is_open:
            return
        async with self.opening:
            if self.is_open:
                return
            import aiohttp

            longest = TRIES * self.timeout  # AWS's tools retry on their own
            try:
                self.account = await asyncio.wait_for(asyncio.to_thread(Account), longest)
            except TimeoutError:
                raise FailedRun(f"AWS: no credentials in {longest} s") from None
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.connections),
                timeout=aiohttp.ClientTimeout(total=self.timeout),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
            self.is_open = True

    async def close(self) -> None:
        """Close the connections."""
        if self.is_open:
            await self.session.close()

    def url_of(self, location: str, path: str) -> str:
        """Return the URL of a file, by its path below the location."""
        return f"{location}/{path}"

    async def list_page(
        self, location: str, folder: str, *, after: str | None, token: str, level: bool
    ) -> Page:
        """Return a page of what lies in a folder below a location, after a path.

        What may be transient is retried after a pause that grows. Raise OSError where it is not,
        PermissionError where S3 refuses.
        """
        bucket, _, prefix = location.partition("://")[2].partition("/")
        top = f"{prefix}/"
        last = "" if after is None else f"{top}{after}"
        query = listing_query(f"{top}{folder}", last, token, level)

        def read(body: bytes) -> Page:
            return read_page(body, last, len(top))

        first_asked = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            is_patient = time.monotonic() - first_asked < LONGEST_SLOW_DOWN
            try:
                return await self.try_page(bucket, query, read)
            except PermissionError as error:
                raise PermissionError(f"{error}{hint_on(error)}") from None
            except OSError as error:
                fault = without_secrets(reason_of(error))
                hint = hint_on(error)
            is_slow_down = fault.startswith("SlowDown")
            if attempt >= LIST_TRIES and not (is_slow_down and is_patient):
                raise OSError(f"{fault}{hint}")
            step = min(attempt, LIST_TRIES)
            if is_slow_down:
                self.slowed_down = True
                step -= STEPS_OF_SLOW_DOWN
            severity = logging.DEBUG if step <= 1 else logging.WARNING
            seconds = min(backoff(step), LONGEST_LIST_PAUSE)
            log.log(severity, "%s: %s; retrying in %.1f s", location, fault, seconds)
            await asyncio.sleep(seconds)

    async def try_page(self, bucket: str, query: str, read: Callable[[bytes], Page]) -> Page:
        """Return a page; raise OSError where there is none."""
        await self.open()
        try:
            return read(await self.ask(bucket, query))
        except TimeoutError:
            raise OSError(f"nothing within {self.timeout} s (--timeout)") from None
        except (FailedRun, OSError):
            raise
        except Exception as error:  # of aiohttp, botocore and read_page
            raise OSError(reason_of(error)) from None

    async def ask(self, name: str, query: str) -> bytes:
        """Return what S3 answers to a request for a bucket, in the region where it says that is."""
        from yarl import URL

        for redirected in (False, True):
            bucket = self.buckets.get(name) or self.account.bucket(name)
            self.buckets[name] = bucket
            url = f"{bucket.url}?{query}"
            async with self.session.get(
                URL(url, encoded=True),
                headers=await self.account.sign(url, bucket.region, self.timeout),
                proxy=bucket.proxy,
                ssl=self.account.certificates,
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
            region = answer.headers.get("x-amz-bucket-region", bucket.region)
            if answer.status == 200 or region == bucket.region or redirected:
                break
            self.buckets[name] = self.account.bucket(name, region)
        check_answer(answer, body, name)
        return body


# ------------------------------------------------------------------------------- request and answer


def listing_query(prefix: str, after: str, token: str, level: bool) -> str:
    """Return the query of a request to list what begins with a prefix."""
    asked = {"prefix": prefix}
    if after and not token:
        asked["start-after"] = after
    if level:
        asked["delimiter"] = "/"
    # url: there are keys that XML cannot spell
    asked |= {"list-type": "2", "encoding-type": "url"}
    if token:
        asked["continuation-token"] = token
    query = "&".join(f"{name}={quote(value)}" for name, value in asked.items())
    return query.replace("/", "%2F")  # quicker than to quote the slashes too


def check_answer(answer: ClientResponse, body: bytes, bucket: str) -> None:
    """Raise OSError for an error that S3 answers, PermissionError where a retry is no use."""
    if answer.status == 200:
        return
    content = body.decode("utf-8", "replace")
    code = re.search(r"<Code>(\w+)</Code>(?:.*<Message>([^<]*)</Message>)?", content, re.DOTALL)
    if not code:
        fault, name = f"{answer.status} {answer.reason}", ""
    else:
        fault, name = f"{code[1]}: {code[2]}", code[1]
    if name == "NoSuchBucket":
        raise FailedRun(f"there is no S3 bucket {bucket!r}")
    transient = ("ExpiredToken", "RequestTimeout", "SlowDown")
    if answer.status >= 500 or answer.status in (408, 429) or name in transient:
        raise OSError(fault)
    raise PermissionError(fault)


def hint_on(error: Exception) -> str:
    """Return what to do about what S3 said, where that is known."""
    refused = "Access ?Denied|Forbidden|InvalidAccessKeyId|SignatureDoesNot|ExpiredToken"
    if re.search(refused, str(error)):
        return "; check the AWS credentials, and that they may list this bucket"
    return ""


# An object as AWS words it, which an XML parser takes four times as long to read.
OBJECT = re.compile(
    rb"<Contents><Key>([^<&]+)</Key><LastModified>[^<]*</LastModified><ETag>[^<]*</ETag>"
    rb"(?:<Checksum\w+>[^<]*</Checksum\w+>)*<Size>(\d+)</Size>"
    rb"<StorageClass>\w+</StorageClass></Contents>"
)


def read_page(body: bytes, last: str, top: int = 0) -> Page:
    """Return a page as S3 words it; raise ValueError for anything else, such as a proxy's page.

    Keys in no order, or not after `last`, are no page either: what lies between would be lost.
    The first `top` characters of keys are left off.
    """
    start, *objects = OBJECT.split(body)  # a key, a size, what follows, and again
    rest = start + b"".join(objects[2::3])
    if b"Contents" in rest:  # not all are worded so
        rest, objects = body, []
    try:
        root = ElementTree.fromstring(rest)  # noqa: S314
    except ElementTree.ParseError as error:
        raise ValueError(f"what S3 answers is not a listing: {error}") from None
    space = root.tag.removesuffix("ListBucketResult")
    truncated = root.findtext(f"{space}IsTruncated")
    token = root.findtext(f"{space}NextContinuationToken") or ""
    expected = ("false", "true") if token else ("false",)
    if space == root.tag or truncated not in expected:
        raise ValueError(f"what S3 answers is not a listing, but {excerpt(root.tag)}")
    decode: Callable[[str], str] = str
    if root.findtext(f"{space}EncodingType") == "url":
        decode = unquote_plus
    keys, sizes = [], []
    for name, number in zip(objects[::3], objects[1::3], strict=True):
        keys.append(decode(name.decode()))
        sizes.append(int(number))
    for key, size in zip(root.iter(f"{space}Key"), root.iter(f"{space}Size"), strict=True):
        keys.append(decode(key.text or ""))
        sizes.append(int(size.text or ""))
    folders = []
    for prefix in root.iterfind(f"{space}CommonPrefixes/{space}Prefix"):
        folders.append(decode(prefix.text or "")[top:])
    if keys != sorted(keys) or (keys and last and keys[0] <= last):
        raise ValueError("what S3 answers is not in the order of the keys")
    paths = [key[top:] for key in keys]
    if truncated == "false":
        token = ""
    return Page(dict(zip(paths, sizes, strict=True)), folders, token)


# ------------------------------------------------------------------------ who asks, where, signed


@dataclass(frozen=True)
class Bucket:
    """Where an S3 bucket is asked."""

    url: str
    region: str
    proxy: str | None


ALGORITHM = "AWS4-HMAC-SHA256"
EMPTY = hashlib.sha256(b"").hexdigest()  # of the body of a request


class Account:
    """The credentials, profile, region and endpoint that boto3 finds, as all AWS tools."""

    def __init__(self) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.httpsession import get_cert_path
        from botocore.session import Session

        try:
            core = Session()
            self.session = boto3.session.Session(botocore_session=core)
            self.credentials = self.session.get_credentials()
            if self.credentials:
                self.credentials.get_frozen_credentials()  # a role that cannot be assumed says so
            region = self.session.region_name or "us-west-2"  # a bucket elsewhere tells where
            self.client = self.session.client("s3", region)
            bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
            self.certificates = ssl.create_default_context(cafile=get_cert_path(bundle or True))
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            raise FailedRun(f"AWS: {without_secrets(str(error))}{hint_on(error)}") from error
        signed = "signed" if self.credentials else "unsigned: no AWS credentials"
        log.info("S3 requests are %s", signed)

    def bucket(self, name: str, region: str | None = None) -> Bucket:
        """Return a bucket in a region, by default in the one that the environment names."""
        from botocore.utils import get_environ_proxies

        client = self.session.client("s3", region) if region else self.client
        url = f"{client.meta.endpoint_url}/{name}"
        proxy = get_environ_proxies(url).get(url.partition(":")[0])
        return Bucket(url, client.meta.region_name, proxy)

    async def sign(self, url: str, region: str, timeout: int) -> dict[str, str]:
        """Return the headers with which S3 takes a request; credentials that end are renewed.

        Raise TimeoutError where that takes longer. This is AWS Signature Version 4 for a GET;
        botocore, with which a test compares it, takes ten times as long.
        """
        if not self.credentials:
            return {}
        get = self.credentials.get_frozen_credentials
        expire = getattr(self.credentials, "refresh_needed", bool)
        frozen = await asyncio.wait_for(asyncio.to_thread(get), timeout) if expire() else get()
        address, _, query = url.partition("?")
        host, _, path = address.partition("://")[2].partition("/")
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {"host": host, "x-amz-content-sha256": EMPTY, "x-amz-date": moment}
        if frozen.token:
            headers["x-amz-security-token"] = frozen.token
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        names, query = ";".join(headers), "&".join(sorted(query.split("&")))
        request = f"GET\n/{path}\n{query}\n{lines}\n{names}\n{EMPTY}".encode()
        scope = f"{moment[:8]}/{region}/s3/aws4_request"
        string = f"{ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(request).hexdigest()}"
        signer = signer_of(frozen.secret_key, scope).copy()
        signer.update(string.encode())
        credential = f"Credential={frozen.access_key}/{scope}"
        headers["Authorization"] = (
            f"{ALGORITHM} {credential}, SignedHeaders={names}, Signature={signer.hexdigest()}"
        )
        return headers


@cache
def signer_of(secret: str, scope: str) -> hmac.HMAC:
    """Return what signs the requests of one day and region, to be copied."""
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.new(key, digestmod="sha256")
