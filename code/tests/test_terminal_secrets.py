"""No secret is in any line."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from dispatch.terminal.messages import echo
from dispatch.terminal.secrets import keep_secret
from faults import FLAGS, drop, is_listing, send, world  # noqa: F401  (a fixture)
from standins import BUCKET, ERROR, KEY_ID, S3, SECRET

ASCII = "".join(map(chr, range(33, 127)))


ECHOES = {
    "http://me:word@host/x and (https://token@": "http://...@host/x and (https://...@",
    "proxy me:wo/rd@host:3128 refuses": "proxy ...@host:3128 refuses",
    "http://me:w@rd@host": "http://...@host",
    "https://host:443/a, s3://bucket/a:b": "https://host:443/a, s3://bucket/a:b",
    "12:30:45 me@host": "12:30:45 me@host",
    f"got {'0123456789abcdef' * 4}, not {'a' * 63}": f"got ..., not {'a' * 63}",
    "x" * 20_000_000: "x" * 500 + "...",
}


@pytest.mark.parametrize("string", ECHOES, ids=range(len(ECHOES)))
def test_passwords_and_signatures_are_taken_out_and_what_is_long_is_cut(string: str) -> None:
    assert echo(string) == ECHOES[string]


@given(st.text(ASCII, min_size=12, max_size=60), st.integers(0, 5), st.integers(0, 5))
def test_a_secret_is_taken_out_in_every_spelling(secret: str, before: int, behind: int) -> None:
    keep_secret(secret)
    inside = b64encode(f"{before * 'b'}{secret}{behind * 'c'}".encode()).decode()
    for spelling in (secret, quote(secret, safe=""), inside):
        told = echo(f"refused: <{spelling}>")
        assert spelling not in told
        assert len(told) < len("refused: <>") + 25, told


def test_what_is_too_short_for_a_secret_stands_in_lines() -> None:
    for secret in ("fives", "sixsix"):
        keep_secret(secret)
    assert echo("fives and sixsix") == "fives and ..."


@pytest.mark.usefixtures("world")
def test_keys_of_a_file_are_in_no_line(run: Run, s3: S3, services: dict[str, str]) -> None:
    aws = Path(services["HOME"], ".aws")
    aws.mkdir()
    keys = f"aws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n"
    (aws / "credentials").write_text(f"[default]\n{keys}")
    content = ERROR.format("AccessDenied", f"not {KEY_ID} with {SECRET}").encode()
    s3.fault = lambda _: send(content, "403 Forbidden")
    result = run(*FLAGS, env=dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")))
    assert "not ... with ..." in result.log
    assert KEY_ID not in result.log
    assert SECRET not in result.log


@pytest.mark.usefixtures("world")
def test_no_secret_is_ever_logged(run: Run, s3: S3) -> None:
    token = "example-session-token"  # noqa: S105
    env: dict[str, str | None] = {"AWS_SESSION_TOKEN": token, "LOG_LEVEL": "DEBUG"}
    few = {"TRIES": 2, "LIST_TRIES": 2, "LONGEST_SLOW_DOWN": 0}
    logs = [run(*FLAGS, env=env).log]
    s3.refused["07/"] = (403, "AccessDenied")
    logs.append(run(*FLAGS, "--overwrite=1", env=env).log)
    s3.refused.clear()
    s3.put(BUCKET, ["03//odd.nwb"])
    s3.fault = lambda request: drop if is_listing(request) else None
    logs.append(run(*FLAGS, "--overwrite=1", env=env, constants=few).log)
    s3.fault = None
    secretive = {"AWS_ENDPOINT_URL": f"http://me:{SECRET}@localhost:9"}
    logs.append(run(*FLAGS, "--overwrite=1", env={**env, **secretive}, constants=few).log)
    proxy = {"HTTPS_PROXY": f"http://me:{SECRET}@localhost:9"}
    logs.append(run(*FLAGS, "--overwrite=1", env={**env, **proxy}, constants=few).log)
    assert sum("Traceback" in log for log in logs) == 4
    for log in logs:
        for secret in (SECRET, token, "Signature=", "AWS4-HMAC", "Authorization"):
            assert secret not in log
