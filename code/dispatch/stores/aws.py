"""Who asks S3, and where: credentials, region, endpoint and proxy, by botocore's own rules."""

from __future__ import annotations

import io
import os
import re
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from dispatch.stores.account_errors import ask_for_code, check_keys, hint_on, told_by
from dispatch.stores.bounds import hold_to_bounds
from dispatch.stores.keys import Keys, keep_secrets
from dispatch.stores.places import Place
from dispatch.terminal.messages import FailedRun, echo, log, reason_of

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse

# What a request is signed for, as botocore writes it: the region and the service.
SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")
NO_KEY = "none"
# What botocore is answered when it asks for a session before it says how a directory bucket is
# asked.
NO_SESSION = b"""<CreateSessionResult><Credentials><AccessKeyId>none</AccessKeyId>
<SecretAccessKey>none</SecretAccessKey><SessionToken>none</SessionToken>
<Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>"""
OF_SESSION = "x-amz-s3session-token"  # a header


class Account:
    """The credentials, profile, region, endpoint and proxies that boto3 finds, as all AWS tools."""

    def __init__(self, timeout: int, no_sign_request: bool = False) -> None:
        import boto3
        from botocore.session import Session

        hold_to_bounds(timeout)
        self.placers: dict[str | None, Any] = {}  # clients, by region
        self.making = Lock()  # of a client, which a session can do for one thread at a time
        self.keys: Keys | None = None
        core = Session()
        try:
            self.session = boto3.session.Session(botocore_session=core)
            if not no_sign_request:
                self.keys = self.find_keys(core, timeout)
            self.placer_in(None)
            self.certificates = certificates_of(core)
        except (FailedRun, ImportError):
            raise
        except Exception as error:  # botocore has no common class for what it cannot read
            raise FailedRun(f"AWS: {told_by(error, core)}{hint_on(error)}") from error
        signed = "signed" if self.keys else "unsigned: no AWS credentials"
        if no_sign_request:
            signed = "unsigned: --no_sign_request 1"
        log.info("S3 requests are %s", signed)

    def find_keys(self, core: Any, timeout: int) -> Keys | None:
        """Return the keys of the account, None where there are none; whatever fails raises."""
        roles = core.get_component("credential_provider").get_provider("assume-role")
        roles._prompter = ask_for_code  # botocore's own waits where there is no terminal
        credentials = self.session.get_credentials()
        if not credentials:
            return None
        frozen = credentials.get_frozen_credentials()
        keep_secrets(frozen)
        check_keys(frozen, credentials.method, core)
        return Keys(credentials, frozen, timeout, partial(told_by, core=core))

    def placer_in(self, region: str | None) -> Any:
        """Return a client that says where a bucket is asked, and asks nobody.

        It is for a region, or None for the one that the environment names. Its keys open nothing,
        so that it never waits for others.
        """
        from botocore import UNSIGNED
        from botocore.config import Config

        with self.making:
            if region not in self.placers:
                signature = None if self.keys else UNSIGNED
                config = Config(signature_version=signature, retries={"total_max_attempts": 1})
                client = self.session.client(
                    "s3",
                    region,
                    config=config,
                    aws_access_key_id=NO_KEY,
                    aws_secret_access_key=NO_KEY,
                )
                client.meta.events.register_first("before-send.s3", catch)
                self.placers[region] = client
        return self.placers[region]

    def place_of(self, bucket: str, region: str | None = None) -> Place:
        """Return where a bucket is asked, and for what the request is signed.

        Raise PermissionError for a name that no bucket can have, and for settings that do not fit.

        A request of botocore's own says it, which is caught before it is sent. To make a client can
        take a while, so that this is no call for a loop.
        """
        from botocore.exceptions import BotoCoreError

        client = self.placer_in(region)
        try:
            client.list_objects_v2(Bucket=bucket)
        except Caught as caught:
            request = caught.request
        except BotoCoreError as error:
            raise PermissionError(reason_of(error)) from None
        url = request.url.partition("?")[0].rstrip("/")
        authorization = request.headers.get("Authorization", b"")
        if isinstance(authorization, bytes):
            authorization = authorization.decode()
        scope = SCOPE.search(authorization)
        if not scope:
            return Place(url, client.meta.region_name, proxy=proxy_for(url))
        in_session = OF_SESSION in request.headers
        return Place(url, scope[1], scope[2], proxy_for(url), in_session=in_session)


class Caught(Exception):
    """A request that was about to be sent."""

    def __init__(self, request: Any) -> None:
        super().__init__(request)
        self.request = request


def catch(request: Any, event_name: str, **_: Any) -> AWSResponse | None:
    """Raise the request that would list a bucket; answer what comes before it.

    Before it lists a directory bucket, botocore asks for keys of a session.
    """
    from botocore.awsrequest import AWSResponse

    if event_name.endswith("CreateSession"):
        return AWSResponse(request.url, 200, {}, io.BytesIO(NO_SESSION))
    raise Caught(request)


def certificates_of(core: Any) -> str:
    """Return the file of the certificates that are trusted."""
    from botocore.httpsession import get_cert_path

    bundle = core.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE")
    return str(get_cert_path(bundle or True))


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
