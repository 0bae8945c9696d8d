"""Who asks S3, and where: credentials, region, endpoint and proxy, by botocore's own rules."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dispatch.stores.crt import Place
from dispatch.stores.locations import Page
from dispatch.terminal.messages import FailedRun, echo, log, reason_of
from dispatch.terminal.secrets import keep_secret

if TYPE_CHECKING:
    from awscrt.auth import AwsCredentialsProvider

# What a request is signed for, as botocore writes it: the region and the service.
SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Account:
    """The credentials, profile, region, endpoint and proxies that boto3 finds, as all AWS tools."""

    def __init__(self, timeout: int, no_sign_request: bool = False) -> None:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.session import Session

        self.timeout = timeout
        self.clients: dict[str | None, Any] = {}  # by region
        self.frozen: Any = None  # the keys that the provider has
        self.provider: AwsCredentialsProvider | None = None
        try:
            core = Session()
            self.session = boto3.session.Session(botocore_session=core)
            self.credentials = None
            if not no_sign_request:
                self.credentials = self.session.get_credentials()
            if self.credentials:  # a role that cannot be assumed says so
                frozen = self.credentials.get_frozen_credentials()
                keep_secrets(frozen)
                check_keys(frozen)
            self.client_in(None)
            self.certificates = certificates_of(core)
        except (BotoCoreError, ClientError, OSError, ValueError) as error:
            raise FailedRun(f"AWS: {echo(told_by(error))}{hint_on(error)}") from error
        signed = "signed" if self.credentials else "unsigned: no AWS credentials"
        if no_sign_request:
            signed = "unsigned: --no_sign_request 1"
        log.info("S3 requests are %s", signed)

    def client_in(self, region: str | None) -> Any:
        """Return a client for a region, None for the one that the environment names."""
        from botocore import UNSIGNED
        from botocore.config import Config

        if region not in self.clients:
            signature = None if self.credentials else UNSIGNED
            config = Config(
                signature_version=signature,
                connect_timeout=self.timeout,
                read_timeout=self.timeout,
                retries={"total_max_attempts": 2},
            )
            self.clients[region] = self.session.client("s3", region, config=config)
        return self.clients[region]

    def place_of(self, bucket: str, region: str | None = None) -> Place:
        """Return where a bucket is asked, and for what the request is signed.

        A request of botocore's own says it, which is caught before it is sent.
        """
        from botocore.awsrequest import AWSResponse

        client = self.client_in(region)
        caught = []

        def catch(request: Any, **_: Any) -> AWSResponse:
            caught.append(request)
            return AWSResponse(request.url, 200, {}, Nothing())

        client.meta.events.register_first("before-send.s3.ListObjectsV2", catch, "catch")
        try:
            client.list_objects_v2(Bucket=bucket)
        finally:
            client.meta.events.unregister("before-send.s3.ListObjectsV2", catch, "catch")
        url = caught[0].url.partition("?")[0].rstrip("/")
        authorization = caught[0].headers.get("Authorization", b"")
        if isinstance(authorization, bytes):
            authorization = authorization.decode()
        scope = SCOPE.search(authorization)
        if scope:
            return Place(url, scope[1], scope[2], proxy_for(url))
        return Place(url, client.meta.region_name, proxy=proxy_for(url))

    def page_of(self, bucket: str, prefix: str, token: str, level: bool) -> Page:
        """Return a page of a directory bucket, which boto3 lists itself; raise OSError.

        These have sessions of their own and no order, so that a page is asked for by its token.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        asked = {"Bucket": bucket, "Prefix": prefix}
        if token:
            asked["ContinuationToken"] = token
        if level:
            asked["Delimiter"] = "/"
        try:
            answer = self.client_in(None).list_objects_v2(**asked)
        except ClientError as error:
            said = error.response["Error"]
            raise PermissionError(f"{said.get('Code')}: {said.get('Message')}") from None
        except BotoCoreError as error:
            raise OSError(str(error)) from None
        sizes = {}
        for item in answer.get("Contents", ()):
            sizes[item["Key"]] = item["Size"]
        folders = [folder["Prefix"] for folder in answer.get("CommonPrefixes", ())]
        return Page(sizes, folders, answer.get("NextContinuationToken", ""), is_ordered=False)

    def region_of(self, bucket: str) -> str | None:
        """Return the region of a bucket, where S3 tells it to HEAD."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer = self.client_in(None).head_bucket(Bucket=bucket)
        except ClientError as error:
            answer = error.response
        except BotoCoreError:
            return None
        region: str | None = answer["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
        return region

    @property
    def can_renew(self) -> bool:
        """Whether credentials that end are followed by others."""
        return hasattr(self.credentials, "refresh_needed")

    async def keys(self) -> AwsCredentialsProvider | None:
        """Return the credentials for a request, renewed if they end soon; None: it is unsigned.

        Raise TimeoutError where that takes longer than a request may.
        """
        if not self.credentials:
            return None
        from awscrt.auth import AwsCredentialsProvider

        get = self.credentials.get_frozen_credentials
        if self.can_renew and self.credentials.refresh_needed():
            frozen = await asyncio.wait_for(asyncio.to_thread(get), self.timeout)
        else:
            frozen = get()
        if frozen != self.frozen:
            keep_secrets(frozen)
            self.provider = AwsCredentialsProvider.new_static(
                frozen.access_key, frozen.secret_key, frozen.token
            )
            self.frozen = frozen
        return self.provider


class Nothing:
    """The body of an answer that nobody gave."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        """Yield a listing of nothing."""
        yield b"<ListBucketResult/>"


def certificates_of(core: Any) -> str:
    """Return the file of the certificates that are trusted; raise OSError if it is not there."""
    from botocore.httpsession import get_cert_path

    bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    path = str(get_cert_path(bundle or True))
    if not os.path.exists(path):
        raise OSError(f"there is no file of certificates {path}")
    return path


def proxy_for(url: str) -> str | None:
    """Return the proxy for a URL, None if it is asked directly; raise FailedRun."""
    from botocore.utils import get_environ_proxies

    proxy = get_environ_proxies(url).get(url.partition(":")[0])
    if not proxy:
        return None
    scheme, sign, _ = proxy.partition("://")
    if not sign:
        return f"http://{proxy.removeprefix('//')}"
    if scheme not in ("http", "https"):
        shown = echo(proxy)
        raise FailedRun(
            f"AWS: the proxy {shown} speaks {scheme}: give one that begins with http://"
        )
    return str(proxy)


def keep_secrets(frozen: Any) -> None:
    """Let no line say any of these keys."""
    for key in (frozen.access_key, frozen.secret_key, frozen.token):
        keep_secret(key)


def told_by(error: Exception) -> str:
    """Return what an error of botocore says, without the words of a program that finds keys."""
    if "custom-process" in str(error):
        return "the credential_process of the profile fails: run it by hand to see why"
    return reason_of(error)


def check_keys(frozen: Any) -> None:
    """Raise FailedRun for keys that no request can carry."""
    for name, key in zip(KEYS, frozen, strict=False):
        if not key or (key == key.strip() and not re.search(r"[\x00-\x1f\x7f]", key)):
            continue
        where = f"${name}" if os.environ.get(name) == key else f"the {name.lower()}"
        what = "has a blank at its ends, or a line break in it"
        if key.rstrip("\r\n") != key:
            what = "ends in a line break"
        raise FailedRun(f"AWS: {where} {what}: write it without")


def hint_on(error: Exception) -> str:
    """Return what to do about what AWS or S3 said, where that is known."""
    said = f"{type(error).__name__} {error}"
    unsigned = "public buckets can be read without: --no_sign_request 1"
    if re.search("SSO|Login|ExpiredToken|TokenRefreshRequired", said):
        return f"; log in again (aws sso login, aws login), or renew the credentials; {unsigned}"
    if re.search("Access ?Denied|Forbidden|InvalidAccessKeyId|SignatureDoesNot", said):
        return f"; check the AWS credentials, and that they may list this bucket; {unsigned}"
    return ""
