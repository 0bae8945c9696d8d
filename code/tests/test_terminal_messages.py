"""What is said: a line each, cut where it is long, and no secret in any, whoever worded it."""

from __future__ import annotations

import logging
import re
import sys
from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import NIGHT, Run, fails
from dispatch.terminal import messages
from dispatch.terminal.messages import echo, excerpt, first_of, shorten
from dispatch.terminal.secrets import keep_secret
from faults import FLAGS, drop, is_listing, send, world  # noqa: F401  (a fixture)
from standins import BUCKET, ERROR, KEY_ID, S3, SECRET, TOKEN, DocDB, record

ODD = 'two\nlines "quoted" \\ \x1b[31m\x00\u202etfel\u2028\u200b\x7f\r'


def test_odd_names_keep_the_log_to_one_line_and_the_json_valid(run: Run, docdb: DocDB) -> None:
    docdb.put(
        {**record("x"), "name": ODD},
        {**record("y"), "name": f"{ODD}!", "location": f"s3://{BUCKET}/{ODD}"},
        {**record("z"), "name": f"{ODD}?", "location": 5},
    )
    result = run("--query={}")
    assert result.status == 0, result.log
    assert [task["asset_name"] for task in result.tasks()] == [[ODD], [f"{ODD}!"]]
    assert all(re.match(r"\d\d:\d\d:\d\d [A-Z]+ ", line) for line in result.log.splitlines())
    assert result.log.replace("\n", "").isprintable()


def test_what_another_thread_is_about_to_say_is_not_said_after_the_last_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # it has passed the switch of the log, and waits to write
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(messages.OneLineFormatter("%(message)s"))
    of_others = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler, of_others])
    record = logging.LogRecord("dispatch", logging.INFO, "", 0, "too late", None, None)
    try:
        messages.end_log()
        handler.handle(record)
    finally:
        logging.disable(logging.NOTSET)
    assert "too late" not in capfd.readouterr().err
    assert of_others.stream is sys.stderr


def test_a_string_is_cut_where_it_is_longer_than_what_is_shown() -> None:
    assert shorten("a" * 200) == "a" * 200
    assert shorten("a" * 201) == "a" * 200 + "..."
    assert excerpt("a" * 60) == repr("a" * 60)
    assert first_of(["a", "b", "c"]) == "'a', 'b', 'c'"
    assert first_of(["a", "b", "c", "d"]) == "'a', 'b', 'c' and 1 more"


# ------------------------------------------------------------------------------------------ secrets

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


# ---------------------------------------------------------------------------------- what others say

WORD = "hush-hush/hush+word"
SECRETIVE: dict[str, dict[str, str | None]] = {
    "endpoint": {"AWS_ENDPOINT_URL": f"me:{WORD}@localhost:9"},
    "endpoint with a scheme": {"AWS_ENDPOINT_URL": f"http://me:{WORD}@localhost:9"},
    "proxy": {"HTTPS_PROXY": f"me:{WORD}@localhost:9", "HTTP_PROXY": f"me:{WORD}@localhost:9"},
    "proxy with a scheme": {"HTTPS_PROXY": f"http://me:{WORD}@localhost:9"},
    "socks": {"HTTP_PROXY": f"socks5://me:{WORD}@localhost:9"},
    "database": {"DOCDB_HOST": f"me:{WORD}@localhost:9"},
    "code ocean": {
        "CO_PIPELINE_ID": "p", "CO_COMPUTATION_ID": "c", "CODEOCEAN_API_TOKEN": TOKEN,
        "CODEOCEAN_DOMAIN": f"me:{WORD}@localhost:9",
    },
}  # fmt: skip


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("level", ["INFO", "DEBUG"] if NIGHT else ["DEBUG"])  # which says more
@pytest.mark.parametrize("name", SECRETIVE)
def test_a_password_in_an_address_is_in_no_line_and_on_no_page(
    name: str, level: str, run: Run
) -> None:
    env = {**SECRETIVE[name], "LOG_LEVEL": level}
    result = run(*FLAGS, "--dry_run=1", env=env, constants={"TRIES": 2, "LIST_TRIES": 2})
    assert result.status in (1, 2), result.log
    for told in (result.log, result.stdout, str(result.files())):
        for part in (WORD, "hush-hush", "word@"):
            assert part not in told


@pytest.mark.usefixtures("world")
def test_what_s3_says_is_repeated_without_secrets_and_not_without_end(run: Run, s3: S3) -> None:
    token = "session-token/with+signs=="  # noqa: S105
    spelt = [token, quote(token, safe=""), b64encode(f"xy{token}z".encode()).decode(), SECRET]
    spelt += ["0123456789abcdef" * 4, "me:word@host"]
    for message in (" ".join(spelt), "x" * 20_000_000):
        body = ERROR.format("AccessDenied", message).encode()[:15_000_000]
        refuse = send(body, "403 Forbidden")
        s3.fault = lambda _, refuse=refuse: refuse
        env: dict[str, str | None] = {"AWS_SESSION_TOKEN": token, "LOG_LEVEL": "DEBUG"}
        result = run("--query={'name': '03'}", FLAGS[1], env=env, constants={"LIST_TRIES": 2})
        assert result.status == 1
        assert "error: cannot list s3://" in result.error
        assert len(result.error) < 2_000
        assert len(result.log) < 40_000
        for secret in (*spelt[:2], spelt[2][4:-4], SECRET, *spelt[4:]):
            assert secret not in result.log


@pytest.mark.usefixtures("world")
def test_what_a_program_for_credentials_says_is_not_repeated(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        "[default]\ncredential_process = sh -c 'echo hush-hush >&2; exit 1'\n"
    )
    env: dict[str, str | None] = {
        "AWS_CONFIG_FILE": str(tmp_path / "config"), "LOG_LEVEL": "INFO",
        "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None,
    }  # fmt: skip
    result = run(*FLAGS, env=env)
    fails(result, "the credential_process of the profile fails: run it by hand to see why")
    assert "hush" not in result.log
