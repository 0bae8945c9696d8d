"""Keys: how they are found and renewed, and how it is told that none can be had."""

from __future__ import annotations

import json
import shlex
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chosen import write_snapshot
from conftest import Run, Start, fails
from faults import FLAGS, Application, answer, world  # noqa: F401  (fixtures)
from standins import BUCKET, KEY_ID, S3, SECRET, DocDB, Request, record

NO_KEYS: dict[str, str | None] = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


def profile(text: str, folder: Path) -> dict[str, str | None]:
    """Return an environment in which nothing but this configuration says who asks."""
    config = folder / "config"
    config.write_text(text)
    return {**NO_KEYS, "AWS_CONFIG_FILE": str(config)}


def program(text: str, folder: Path) -> dict[str, str | None]:
    """Return an environment in which this script of Python gives the keys."""
    script = folder / "keys.py"
    script.write_text(text)
    command = shlex.join([sys.executable, "-S", str(script)])
    return profile(f"[default]\ncredential_process = {command}\n", folder)


def keys_for(minutes: float) -> str:
    """Return keys as a program gives them, which end after so many minutes."""
    end = datetime.now(UTC) + timedelta(minutes=minutes)
    keys = {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "SessionToken": "a-session"}
    return json.dumps({"Version": 1, **keys, "Expiration": end.isoformat()})


def twice(folder: Path, good: int, then: str, minutes: float = 5) -> dict[str, str | None]:
    """Return an environment in which a program gives keys so often, then does something first."""
    script = f"""
import os, sys, time
with open({str(folder / "calls")!r}, "a") as calls:
    print(end="x", file=calls)
    number = calls.tell()
if number > {good}:
    {then}
print({keys_for(minutes)!r})
"""
    return program(script, folder)


@pytest.fixture
def many(docdb: DocDB, s3: S3) -> list[str]:
    """Have assets enough for requests to go on for a while."""
    names = [f"{number:03}" for number in range(60)]
    docdb.put(*map(record, names))
    s3.put(BUCKET, [f"{name}/x.nwb" for name in names])
    return names


def test_keys_that_still_serve_are_not_waited_for(
    run: Run, many: list[str], tmp_path: Path
) -> None:
    good = 2  # botocore calls for them twice at first
    env = twice(tmp_path, good, "time.sleep(99)", minutes=14)
    started = time.monotonic()
    result = run(*FLAGS, "--timeout=60", env=env, constants={"RENEWAL_PAUSE": 0})
    assert result.status == 0, result.log
    assert len(result.tasks()) == len(many)
    assert time.monotonic() - started < 50  # nor is the end of the program
    assert (tmp_path / "calls").stat().st_size > good  # the keys were asked for anew


def test_new_keys_are_asked_for_once_for_all(
    run: Run, many: list[str], tmp_path: Path, s3: S3
) -> None:
    result = run(*FLAGS, env=twice(tmp_path, 1, "time.sleep(0.3)"))
    assert result.status == 0, result.log
    assert len(result.tasks()) == len(many)
    assert (tmp_path / "calls").stat().st_size <= 2
    assert {request.token for request in s3.listings()} == {"a-session"}


@pytest.mark.parametrize(
    ("then", "words"),
    [
        (
            "while True: sys.stdout.write(' ' * 1_000_000)",
            "the credential_process of the profile says more than 1,000,000 bytes",
        ),
        (
            "sys.exit('hush-hush')",
            "the credential_process of the profile fails: run it by hand to see why",
        ),
        ("time.sleep(60)", "nothing within 2 s (--timeout)"),
    ],
    ids=["endless", "fails", "hangs"],
)
@pytest.mark.usefixtures("many")
def test_new_keys_that_do_not_come_end_the_run(
    then: str, words: str, run: Run, tmp_path: Path
) -> None:
    constants = {"LIST_TRIES": 1, "RENEWAL_PAUSE": 0}
    result = run(*FLAGS, "--timeout=2", env=twice(tmp_path, 2, then), constants=constants)
    fails(result, f"no new AWS credentials: {words}")
    assert "hush" not in result.log


def test_keys_that_expire_in_the_middle_are_renewed(
    run: Run, many: list[str], s3: S3, tmp_path: Path
) -> None:
    # each call gives keys of its own, which are to serve for longer than they do
    keys = f"{keys_for(minutes=5)!r}.replace('a-session', str(os.getpid()))"
    tokens: list[str] = []
    over: set[str] = set()

    def expired(request: Request) -> Application | None:
        tokens.append(request.token)
        if len(tokens) in (12, 30, 31, 32):  # what was given out so far is over
            over.update(tokens)
        return answer(400, "ExpiredToken") if request.token in over else None

    s3.fault = expired
    env = program(f"import os\nprint({keys})", tmp_path)
    result = run(*FLAGS, "--max_connections=2", env=env)
    assert result.status == 0, result.log
    assert len(result.tasks()) == len(many)
    assert all(tokens)
    assert len(over) > 1
    assert set(tokens) - over


def test_credentials_that_never_come_end_the_run(run: Run, tmp_path: Path) -> None:
    flags = (*FLAGS, write_snapshot(tmp_path, [record("a")]), "--timeout=1")
    env = program("import time\ntime.sleep(60)", tmp_path)
    fails(run(*flags, env=env, constants={"TRIES": 1}), "AWS: no credentials in 1 s")


# ------------------------------------------------------------------------------ what does not serve

ROLE = "arn:aws:iam::123456789012:role/r"
# What a configuration says, and what of the error says what is wrong with it.
CONFIGS: dict[str, tuple[str, list[str]]] = {
    "list": ("credential_process = echo []", ["credential_process", "are no credentials"]),
    "word": ("credential_process = echo hello", ["credential_process", "are no credentials"]),
    "numbers": ("""credential_process = echo '{"Version": 1, "AccessKeyId": 1}'""",
                ["credential_process", "are no credentials"]),
    "deep": (f"credential_process = {sys.executable} -c 'print(\"[\" * 100_000)'",
             ["credential_process", "are no credentials"]),
    "no program": ("credential_process = /no/such", ["credential_process", "cannot be started"]),
    "no quote": ("credential_process = sh -c 'x", ["profile 'default' in ", "/config"]),
    "over": ("""credential_process = echo '{"Version": 1, "AccessKeyId": "a", "SecretAccessKey":"""
             """ "b", "SessionToken": "c", "Expiration": "2001-01-01T00:00:00Z"}'""",
             ["still expired", "profile 'default'"]),
    "s3": ("s3 = word", ["s3 of profile 'default' in ", "/config must be several", "'word'"]),
    "style": ("s3 =\n  addressing_style = odd", ["addressing style odd"]),
    "number": ("metadata_service_timeout = soon", ["'soon'", "profile 'default' in ", "/config"]),
    "blank key": ("aws_access_key_id =\naws_secret_access_key = x",
                  ["the aws_access_key_id of profile 'default' in ", "/config is blank"]),
    "blank secret": ("aws_access_key_id = x\naws_secret_access_key =",
                     ["the aws_secret_access_key of profile 'default' in ", "is blank"]),
    "one key": ("aws_access_key_id = x", ["missing: aws_secret_access_key"]),
    "region": ("region = us west", ["'us west'"]),
    "source": (f"role_arn = {ROLE}\nsource_profile = x", ['source_profile "x"', "not exist"]),
    "no session": ("sso_session = s\nsso_account_id = 1\nsso_role_name = r", ["not exist", '"s"']),
    "code": (f"role_arn = {ROLE}\nsource_profile = base\nmfa_serial = m\n[profile base]\n"
             "aws_access_key_id = x\naws_secret_access_key = y", ["MFA code", "no terminal"]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.usefixtures("world")
def test_a_configuration_that_does_not_serve_is_told_as_what_it_is(
    name: str, run: Run, tmp_path: Path
) -> None:
    text, words = CONFIGS[name]
    env = {**profile(f"[default]\n{text}\n", tmp_path), "AWS_DEFAULT_REGION": None}
    result = run(*FLAGS, env=env, constants={"LIST_TRIES": 2})
    fails(result, "error: AWS: ", *words)
    assert "AWS_ERROR" not in result.log
    assert "log in again" not in result.error


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_ACCESS_KEY_ID", "  ", "is blank: give all keys, or none"),
        ("AWS_SECRET_ACCESS_KEY", "  ", "is blank: give all keys, or none"),
        ("AWS_ACCESS_KEY_ID", "secretive\r", "ends in a line break: write it without"),
        ("AWS_SECRET_ACCESS_KEY", "secretive\n", "ends in a line break: write it without"),
        ("AWS_SESSION_TOKEN", "secretive\r\n", "ends in a line break: write it without"),
    ],
)
@pytest.mark.usefixtures("world")
def test_a_key_that_cannot_be_one_is_told_by_its_name(
    name: str, value: str, words: str, run: Run, s3: S3
) -> None:
    result = run(*FLAGS, env={name: value})
    fails(result)
    assert result.error == f"error: AWS: ${name} {words}"
    assert "secretive" not in result.log
    assert not s3.requests


@pytest.mark.usefixtures("world")
def test_a_role_that_asks_for_a_code_does_not_wait_for_a_pipe(start: Start, tmp_path: Path) -> None:
    text, _ = CONFIGS["code"]
    started = time.monotonic()
    pipe = "exec < <(exec sleep 50 >/dev/null 2>&1); exec setsid --wait "
    process = start(*FLAGS, env=profile(f"[default]\n{text}\n", tmp_path), prefix=pipe)
    _, log = process.communicate(timeout=100)
    assert "no terminal to give it on" in log
    assert "Password" not in log
    assert time.monotonic() - started < 40


SSO = """[default]
sso_session = lab
sso_account_id = 123456789012
sso_role_name = reader
[sso-session lab]
sso_region = us-west-2
sso_start_url = https://x.example.org/start
sso_registration_scopes = sso:account:access
"""


@pytest.mark.parametrize("minutes", [None, -60, 60])
@pytest.mark.usefixtures("world")
def test_a_login_by_a_session_that_is_over_says_to_log_in(
    minutes: int | None, run: Run, tmp_path: Path, services: dict[str, str]
) -> None:
    if minutes is not None:  # the name of a token's file is a hash of the session's
        end = datetime.now(UTC) + timedelta(minutes=minutes)
        token = {"accessToken": "t", "expiresAt": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
        cache = Path(services["HOME"]) / ".aws/sso/cache"
        cache.mkdir(parents=True)
        name = f"{sha1(b'lab', usedforsecurity=False).hexdigest()}.json"
        (cache / name).write_text(json.dumps(token))
    refusing = serve(lambda handler: handler.send_error(401))
    env = {
        **profile(SSO, tmp_path),
        "AWS_ENDPOINT_URL_SSO": refusing,
        "AWS_ENDPOINT_URL_SSO_OIDC": refusing,
    }
    result = run(*FLAGS, env=env)
    assert result.status == 1
    assert "aws sso login" in result.error


# ---------------------------------------------------------------------------- services that serve

END = "2099-01-01T00:00:00Z"
GIVEN = {"AccessKeyId": KEY_ID, "SecretAccessKey": SECRET, "Token": "a-session", "Expiration": END}
OF_A_ROLE = f"""<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleResult><Credentials><AccessKeyId>{KEY_ID}</AccessKeyId>
<SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>a-session</SessionToken>
<Expiration>{END}</Expiration></Credentials></AssumeRoleResult></AssumeRoleResponse>"""
ROLES = "/latest/meta-data/iam/security-credentials/"
ANSWERS = {
    "/container": json.dumps(GIVEN),
    "/latest/api/token": "a-token",
    ROLES: "a-role",
    f"{ROLES}a-role": json.dumps({**GIVEN, "Code": "Success"}),
    "/": OF_A_ROLE,
}


def give(handler: BaseHTTPRequestHandler) -> None:
    """Answer as the services that hand out credentials do, in chunks."""
    handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    body = ANSWERS[handler.path].encode()
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.send_header("Connection", "close")  # else the next request may be sent to a closed one
    handler.send_header("x-aws-ec2-metadata-token-ttl-seconds", "60")
    handler.end_headers()
    for first in range(0, len(body), 100):
        piece = body[first : first + 100]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("service", ["container", "imds", "sts"])
@pytest.mark.usefixtures("world")
def test_keys_that_a_service_gives_are_used(service: str, run: Run, s3: S3, tmp_path: Path) -> None:
    url = serve(give)
    role = f"[default]\nrole_arn = {ROLE}\nsource_profile = b\n[profile b]\n"
    keys = "aws_access_key_id = AKID\naws_secret_access_key = secret\n"
    env = {
        "container": {**NO_KEYS, "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/container"},
        "imds": {
            **{**NO_KEYS, "AWS_EC2_METADATA_DISABLED": None},
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": f"{url}/",
            "AWS_METADATA_SERVICE_TIMEOUT": "20",  # 1 by default, which a busy machine may take
        },
        "sts": {**profile(f"{role}{keys}", tmp_path), "AWS_ENDPOINT_URL_STS": url},
    }[service]
    result = run(*FLAGS, env=env)
    assert result.status == 0, result.log
    assert {request.token for request in s3.listings()} == {"a-session"}


def serve(answer: Any) -> str:
    """Return the address of a server on loopback that does this with each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        do_POST = do_PUT = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"
