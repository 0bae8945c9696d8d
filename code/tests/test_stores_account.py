"""S3 is asked who, where and how boto3 would ask it: what arrives is compared with its requests.

A proxy on loopback opens TLS for any host, keeps what arrives, and answers as a test tells it.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, urlsplit

import boto3
import pytest
import trustme
from botocore import UNSIGNED
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from conftest import Result, Run, in_turn, some
from faults import page_of
from finding import ONE_LOADER
from standins import ERROR, KEY_ID, SECRET, DocDB, record

Answer = tuple[int, dict[str, str], bytes]
LISTING = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name>
<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>
<Contents><Key>x/a.nwb</Key><Size>1</Size></Contents></ListBucketResult>"""
EMPTY = re.sub(b"<Contents>.*</Contents>", b"", LISTING)


@dataclass(frozen=True)
class Arrived:
    """A request, as far as it says who asks where."""

    method: str
    url: str  # without the query
    scope: str  # region and service that it is signed for, "" if it is not
    headers: dict[str, str] = field(compare=False, default_factory=dict)
    query: str = field(compare=False, default="")


class Catcher:
    """A proxy that is every server: it keeps what arrives, and answers with a listing."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca_file = folder / "catcher-ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca_file))
        self.contexts: dict[str, ssl.SSLContext] = {}
        self.arrived: list[Arrived] = []
        self.clear()
        catcher = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            scheme = "http"

            def do_CONNECT(self) -> None:
                if not self.is_let_in():
                    return
                self.send_response(200)
                self.end_headers()
                with suppress(OSError):
                    context = catcher.context_for(self.path.rpartition(":")[0])
                    self.connection = context.wrap_socket(self.connection, server_side=True)
                    self.rfile = self.connection.makefile("rb")
                    self.wfile = self.connection.makefile("wb", buffering=0)
                    self.scheme = "https"
                    self.close_connection = False  # CONNECT may come as HTTP/1.0
                    while not self.close_connection:
                        self.handle_one_request()
                self.close_connection = True

            def do_GET(self) -> None:
                if self.scheme == "http" and not self.is_let_in():
                    return
                self.keep_and_answer()

            do_HEAD = do_GET  # noqa: N815

            def is_let_in(self) -> bool:
                given = self.headers.get("Proxy-Authorization", "").removeprefix("Basic ")
                if not catcher.password or b64decode(given).decode() == catcher.password:
                    return True
                self.send_response(407)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return False

            def keep_and_answer(self) -> None:
                path, _, query = self.path.partition("?")
                if path.startswith("http://"):
                    path = urlsplit(path).path
                url = f"{self.scheme}://{self.headers['Host']}{path or '/'}"
                signature = self.headers.get("Authorization", "")
                scope = re.search(r"Credential=[^/]+/\d+/([^/]+/[^/]+)/aws4_request", signature)
                one = Arrived(
                    self.command, url, scope[1] if scope else "", dict(self.headers), query
                )
                catcher.arrived.append(one)
                status, headers, body = catcher.answer(one) or (200, {}, LISTING)
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def clear(self) -> None:
        """Forget what has arrived, let everybody in, and answer with a listing."""
        self.arrived.clear()
        self.password = ""
        self.answer: Callable[[Arrived], Answer | None] = lambda _: None

    def context_for(self, host: str) -> ssl.SSLContext:
        """Return TLS for a host, whose certificate is made when it is first asked for."""
        if host not in self.contexts:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.authority.issue_cert(host).configure_cert(context)
            self.contexts[host] = context
        return self.contexts[host]


@pytest.fixture(scope="module")
def catcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catcher]:
    catcher = Catcher(tmp_path_factory.mktemp("catcher"))
    yield catcher
    catcher.server.shutdown()


@dataclass
class World:
    """An environment in which both boto3 and the program ask for a bucket."""

    run: Run
    docdb: DocDB
    catcher: Catcher
    home: Path
    base: dict[str, str | None]
    constants: dict[str, float] = field(default_factory=dict)  # of the program

    def environment(self, **more: str | None) -> dict[str, str | None]:
        """Return the environment that leads to the catcher, with what a test adds."""
        return {**self.base, **more}

    def program(self, *words: str, **more: str | None) -> Result:
        """Run the program with flags on an asset in each bucket, in an environment."""
        flags = ["--query={}", "--file_extension=nwb", "--overwrite=1"]
        self.docdb.records["v1"].clear()
        for word in words:
            if word.startswith("--"):
                flags.append(word)
            else:
                self.docdb.put(record("x", bucket=word, _id=word))
        self.catcher.arrived.clear()
        return self.run(*flags, env=self.environment(**more), constants=self.constants)

    def boto3(self, *buckets: str, **more: str | None) -> list[Arrived]:
        """List buckets with boto3; return what arrives."""
        self.catcher.arrived.clear()
        given = self.environment(**more)
        env = {name: value for name, value in given.items() if value is not None}
        with patch.dict(os.environ, env, clear=True), patch.object(*ONE_LOADER):
            session = boto3.session.Session()
            unsigned = Config(signature_version=UNSIGNED)
            config = None if session.get_credentials() else unsigned
            client = session.client("s3", config=config)
            for bucket in buckets:
                client.list_objects_v2(Bucket=bucket)
        return list(self.catcher.arrived)


@pytest.fixture
def world(run: Run, docdb: DocDB, catcher: Catcher, services: dict[str, str]) -> World:
    catcher.clear()
    (Path(services["HOME"]) / ".aws").mkdir()
    both = Path(services["HOME"]) / "both.pem"
    both.write_text(Path(services["REQUESTS_CA_BUNDLE"]).read_text() + catcher.ca_file.read_text())
    base: dict[str, str | None] = {
        **services,
        "REQUESTS_CA_BUNDLE": str(both),
        "AWS_ENDPOINT_URL": None,
        "AWS_DEFAULT_REGION": None,
        "HTTPS_PROXY": f"http://127.0.0.1:{catcher.port}",
        "HTTP_PROXY": f"http://127.0.0.1:{catcher.port}",
        "NO_PROXY": "localhost",
    }
    return World(run, docdb, catcher, Path(services["HOME"]), base)


WEST = "[default]\nregion = us-west-2\n"
ENDPOINT = "http://s3.example.org:9000"
VPC = "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com"
SERVICES = (
    "[default]\nservices = own\n[services own]\ns3 =\n  endpoint_url = https://own.example.org/s3\n"
)
Situation = tuple[list[str], dict[str, str], str]
# What a user's surroundings are: buckets, the environment, ~/.aws/config.
SITUATIONS: dict[str, Situation] = {
    "nothing": (["a-bucket"], {}, ""),
    "kinds of buckets": (["a-bucket", "a.bucket", "a-point-abcdefghij1234567890-s3alias",
                          "a-point-abcdefghij1234567890--ol-s3"],
                         {"AWS_DEFAULT_REGION": "us-west-2"}, ""),
    "us-east-1": (["a-bucket", "A-Bucket"], {"AWS_DEFAULT_REGION": "us-east-1"}, ""),
    "with a slash": (["a-bucket"], {"AWS_ENDPOINT_URL": f"{ENDPOINT}/"}, ""),
    "with a path": (["a-bucket"], {"AWS_ENDPOINT_URL": "https://gateway.example.org/s3/v1/"}, ""),
    "services of the profile": (["a-bucket"], {}, SERVICES),
    "unsigned": (["a-bucket"], {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, ""),
    "a profile": (["a-bucket"], {"AWS_PROFILE": "lab"}, "[profile lab]\nregion = eu-west-3\n"
                  "aws_access_key_id = AKIDLAB\naws_secret_access_key = s\n"),
}  # fmt: skip
# Those that botocore alone looks at, which the program lets say where a bucket is asked.
OF_BOTOCORE: dict[str, Situation] = {
    "aws-global": (["a-bucket"], {"AWS_DEFAULT_REGION": "aws-global"}, ""),
    "a region": (["a-bucket"], {"AWS_DEFAULT_REGION": "eu-central-1"}, ""),
    "a region of the profile": (["a-bucket"], {}, "[default]\nregion = ap-south-1\n"),
    "GovCloud": (["a-bucket"], {"AWS_DEFAULT_REGION": "us-gov-west-1"}, ""),
    "s3-external-1": (["a-bucket"], {"AWS_DEFAULT_REGION": "s3-external-1"}, ""),
    "China": (["a-bucket"], {"AWS_DEFAULT_REGION": "cn-north-1"}, ""),
    "FIPS": (["a-bucket"], {"AWS_USE_FIPS_ENDPOINT": "true"}, WEST),
    "dual stack": (["a-bucket"], {"AWS_USE_DUALSTACK_ENDPOINT": "true"}, WEST),
    "an endpoint": (["a-bucket"], {"AWS_ENDPOINT_URL": ENDPOINT}, ""),
    "for S3 alone": (["a-bucket"], {"AWS_ENDPOINT_URL_S3": "https://own.example.org"}, ""),
    "a VPC endpoint": (["a-bucket"], {"AWS_ENDPOINT_URL": VPC}, ""),
    "ignored endpoints": (["a-bucket"], {"AWS_ENDPOINT_URL": ENDPOINT,
                                         "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, ""),
    "virtual hosts": (["a-bucket"], {"AWS_ENDPOINT_URL": ENDPOINT},
                      "[default]\ns3 =\n  addressing_style = virtual\n"),
    "paths": (["a-bucket"], {"AWS_DEFAULT_REGION": "us-west-2"},
              "[default]\ns3 =\n  addressing_style = path\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", [*SITUATIONS, *some(OF_BOTOCORE, 4)])
def test_what_arrives_is_what_boto3_would_send(name: str, world: World) -> None:
    buckets, env, config = {**SITUATIONS, **OF_BOTOCORE}[name]
    (world.home / ".aws" / "config").write_text(config)
    expected = world.boto3(*buckets, **env)
    result = world.program(*buckets, **env)
    assert result.status == 0, result.log
    assert Counter(world.catcher.arrived) == Counter(expected)
    assert {one.method for one in expected} == {"GET"}
    for one in expected:
        assert bool(one.scope) == (name != "unsigned")
    signed = "unsigned: no AWS credentials" if name == "unsigned" else "signed"
    assert f"INFO S3 requests are {signed}\n" in result.log


# Each two of a user, an endpoint and a scheme, or of none of them, come together.
@pytest.mark.parametrize(
    ("user", "endpoint", "scheme"),
    [
        ("", None, "http://"),
        ("", ENDPOINT, ""),
        ("me:se/cr@t!", None, ""),
        ("me:se/cr@t!", ENDPOINT, "http://"),
    ],
)
def test_a_proxy_is_gone_through_as_boto3_does(
    user: str, endpoint: str | None, scheme: str, world: World
) -> None:
    world.catcher.password = user
    quoted = quote(user, safe=":") + "@" * bool(user)
    proxy = f"{scheme}{quoted}127.0.0.1:{world.catcher.port}"
    env = {"HTTPS_PROXY": proxy, "HTTP_PROXY": proxy, "AWS_ENDPOINT_URL": endpoint}
    expected = world.boto3("a-bucket", **env)
    result = world.program("a-bucket", **env)
    assert result.status == 0, result.log
    assert world.catcher.arrived == expected
    assert "cr@t" not in result.log
    assert "cr%40t" not in result.log


def test_what_no_proxy_names_is_asked_directly(world: World) -> None:
    direct = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{world.catcher.port}",
        "NO_PROXY": "127.0.0.1,localhost",
    }
    dead = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    assert world.program("a-bucket", **direct, **dead).status == 0
    assert [one.url for one in world.catcher.arrived] == [f"{direct['AWS_ENDPOINT_URL']}/a-bucket"]


# ------------------------------------------------------------------------------ another region


def fault(status: int, code: str, headers: dict[str, str] | None = None, more: str = "") -> Answer:
    body = ERROR.format(code, "elsewhere").replace("</Error>", f"{more}</Error>").encode()
    return status, headers or {}, body


HOME_REGION = {"x-amz-bucket-region": "eu-north-1"}
REDIRECTS: dict[str, Answer] = {
    "header": fault(301, "PermanentRedirect", HOME_REGION),
    "body": fault(400, "AuthorizationHeaderMalformed", None, "<Region>eu-north-1</Region>"),
    "temporary": fault(307, "TemporaryRedirect", HOME_REGION),
    "HEAD": fault(301, "PermanentRedirect"),
    "opt in": fault(400, "IllegalLocationConstraintException"),
}


@pytest.mark.parametrize(("name", "endpoint"), in_turn(REDIRECTS, [None, ENDPOINT]))
def test_another_region_is_followed_as_boto3_does(
    name: str, endpoint: str | None, world: World
) -> None:
    def answer(one: Arrived) -> Answer | None:
        if one.method == "HEAD":
            return (200 if one.scope.startswith("eu-north-1/") else 301), HOME_REGION, b""
        return None if one.scope.startswith("eu-north-1/") else REDIRECTS[name]

    world.catcher.answer = answer
    env = {"AWS_DEFAULT_REGION": "us-west-2", "AWS_ENDPOINT_URL": endpoint}
    first, *_, last = world.boto3("a-bucket", **env)
    result = world.program("a-bucket", **env)
    assert result.status == 0, result.log
    assert world.catcher.arrived[0] == first
    assert world.catcher.arrived[-1] == last
    methods = [one.method for one in world.catcher.arrived]
    assert methods.count("GET") == 2
    assert methods.count("HEAD") == (name in ("HEAD", "opt in"))  # where nothing else says it


# ------------------------------------------------------------------------------------ signatures


@pytest.mark.parametrize(("token", "endpoint"), in_turn(["", "a/session+token="], [None, ENDPOINT]))
def test_every_signature_is_the_one_that_botocore_makes(
    token: str, endpoint: str | None, world: World
) -> None:
    world.catcher.answer = lambda _: (200, {}, EMPTY)
    locations = ["x", "a b/é+%~!'()*", "deep//er/日本"]
    world.docdb.put(*(record(at, location=f"s3://a-bucket/{at}") for at in locations))
    env = {"AWS_DEFAULT_REGION": "us-west-2", "AWS_SESSION_TOKEN": token or None}
    env["AWS_ENDPOINT_URL"] = endpoint
    world.run("--query={}", "--file_extension=nwb", env=world.environment(**env))
    assert len({one.query for one in world.catcher.arrived}) >= len(locations)
    for one in world.catcher.arrived:
        headers = {name.lower(): value for name, value in one.headers.items()}
        signer = S3SigV4Auth(Credentials(KEY_ID, SECRET, token or None), "s3", "us-west-2")
        request = AWSRequest("GET", f"{one.url}?{one.query}")
        request.context["timestamp"] = headers["x-amz-date"]
        request.headers["X-Amz-Content-SHA256"] = headers["x-amz-content-sha256"]
        request.headers["X-Amz-Date"] = headers["x-amz-date"]
        if token:
            request.headers["X-Amz-Security-Token"] = headers["x-amz-security-token"]
        canonical = signer.canonical_request(request)
        signature = signer.signature(signer.string_to_sign(request, canonical), request)
        assert headers["authorization"].endswith(f"Signature={signature}")


# ------------------------------------------------------------------------- what no retry mends


def ends(result: Result, *words: str) -> None:
    """Look whether a run has failed with these words, and nothing is written."""
    assert result.status == 1, result.log
    for word in words:
        assert word in result.error, result.error
    assert "0x" not in result.error
    assert result.files() == {}


NOBODY: dict[str, str | None] = {"HTTP_PROXY": None, "HTTPS_PROXY": None}
DEAD_PROXY = "http://me:secretive@127.0.0.1:{free}"
# What is wrong with where S3 is asked, what is told of it, and how often it is tried again.
NOWHERE: dict[str, tuple[dict[str, str | None], list[str], int]] = {
    "a proxy that refuses": (
        {"HTTPS_PROXY": "http://me:secretive@127.0.0.1:{catcher}"},
        ["a-bucket/x of asset x", "the proxy http://127.0.0.1:{catcher} refuses"], 0),
    "socks": ({"HTTPS_PROXY": "socks5://me:secretive@127.0.0.1:1080"},
              ["speaks socks5", "http://"], 0),
    "a certificate of another host": (
        {"AWS_ENDPOINT_URL": "https://wrong.example.org"},
        ["wrong.example.org", "certificate does not fit"], 0),
    "a strange authority": ({"AWS_CA_BUNDLE": "{stranger}"},
                            ["amazonaws.com", "certificate does not fit"], 0),
    "no server": ({**NOBODY, "AWS_ENDPOINT_URL": "http://127.0.0.1:{free}"},
                  ["127.0.0.1:{free} refuses the connection"], 2),
    "no such server": ({**NOBODY, "AWS_ENDPOINT_URL": "http://nowhere.invalid"},
                       ["there is no server called nowhere.invalid"], 2),
    "no proxy": ({"HTTP_PROXY": DEAD_PROXY, "HTTPS_PROXY": DEAD_PROXY},
                 ["the proxy http://127.0.0.1:{free} refuses the connection"], 2),
}  # fmt: skip


@pytest.mark.parametrize("name", NOWHERE)
def test_what_leads_nowhere_is_told_at_once_or_soon(name: str, world: World) -> None:
    given, words, retries = NOWHERE[name]
    if name == "a proxy that refuses":
        world.catcher.password = "me:right"  # noqa: S105
    world.catcher.contexts["wrong.example.org"] = world.catcher.context_for("other.example.org")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        at: dict[str, Any] = {"catcher": world.catcher.port, "free": free.getsockname()[1]}
    at["stranger"] = world.docdb.ca_file
    env = {key: value and value.format(**at) for key, value in given.items()}
    result = world.program("a-bucket", LOG_LEVEL="DEBUG", **env)
    ends(result, *(word.format(**at) for word in words))
    assert result.log.count("retrying in") == retries
    assert "secretive" not in result.log


LOGINS = [
    "[default]\nsso_start_url = https://x.example.org/start\nsso_region = us-west-2\n"
    "sso_account_id = 123456789012\nsso_role_name = reader\nregion = us-west-2\n",
    "[default]\nlogin_session = arn:aws:iam::123456789012:user/me\nregion = us-west-2\n",
]


def test_a_login_that_is_over_says_to_log_in_or_how_to_do_without(world: World) -> None:
    nobody = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    for login in LOGINS:
        (world.home / ".aws" / "config").write_text(login)
        result = world.program("a-bucket", **nobody)
        ends(result, "AWS: ", "log in again", "--no_sign_request 1")
    public = world.program("a-bucket", "--no_sign_request=1", **nobody)
    assert public.status == 0, public.log
    assert [one.scope for one in world.catcher.arrived] == [""]
    assert "S3 requests are unsigned: --no_sign_request 1" in public.log


# ------------------------------------------------------------------------------------- answers


def page(keys: list[str], token: str, prefix: str = "x/") -> Answer:
    return 200, {}, page_of(keys, token, prefix)


def test_answers_that_lead_nowhere_are_an_error_that_names_the_asset(world: World) -> None:
    numbers = count()
    elsewhere = fault(301, "PermanentRedirect", {"x-amz-bucket-region": "!!"})
    answers: dict[str, Callable[[Arrived], Answer]] = {
        "PermanentRedirect": lambda _: elsewhere,
        "empty pages in a row": lambda _: page([], f"t{next(numbers)}"),
        "a page that comes again": lambda _: page([], "same"),
        "more than": lambda _: page([], "t" * 200_000),
        "that comes again": lambda _: page(["x/a"], f"t{next(numbers)}"),
        "is not below 'x/'": lambda _: page(["other/x/z.nwb"], "t"),
        "is not about 'x/'": lambda _: page([], "t", "other/"),
    }
    world.constants = {"EMPTY_PAGES": 5, "LIST_TRIES": 2, "LARGEST_PAGE": 100_000}
    for words, answer in answers.items():
        world.catcher.answer = answer
        result = world.program("a-bucket", AWS_DEFAULT_REGION="us-west-2")
        ends(result, "cannot list s3://a-bucket/x of asset x: ", words)


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (403, "InvalidAccessKeyId", "check the AWS credentials"),
        (403, "AccessDenied", "check the AWS credentials"),
        (400, "ExpiredToken", "renew the credentials"),
    ],
)
def test_keys_that_s3_refuses_are_told_at_once(
    status: int, code: str, hint: str, world: World
) -> None:
    world.catcher.answer = lambda _: fault(status, code)
    result = world.program("a-bucket", AWS_DEFAULT_REGION="us-west-2")
    ends(result, f"cannot list s3://a-bucket/x of asset x: {code}: ", hint, "--no_sign_request 1")
    assert len(world.catcher.arrived) == 1


SESSION = b"""<CreateSessionResult><Credentials><SessionToken>session</SessionToken>
<SecretAccessKey>s</SecretAccessKey><AccessKeyId>a</AccessKeyId>
<Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></CreateSessionResult>"""


def test_a_directory_bucket_is_listed_in_its_session(world: World) -> None:
    world.catcher.answer = lambda one: (200, {}, SESSION) if "session" in one.query else None
    result = world.program("lab--usw2-az1--x-s3", AWS_DEFAULT_REGION="us-west-2")
    assert result.status == 0, result.log
    [task] = result.tasks()
    assert task["file_location"] == ["s3://lab--usw2-az1--x-s3/x/a.nwb"]
    hosts = {urlsplit(one.url).netloc for one in world.catcher.arrived}
    assert hosts == {"lab--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com"}
    listing = world.catcher.arrived[-1]
    headers = {name.lower(): value for name, value in listing.headers.items()}
    assert headers["x-amz-s3session-token"] == "session"
    assert "x-amz-security-token" not in headers
