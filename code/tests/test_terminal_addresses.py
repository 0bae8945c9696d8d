"""What others say is repeated without secrets and not without end."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from urllib.parse import quote

import pytest

from conftest import NIGHT, Run, fails
from faults import send
from standins import ERROR, S3, SECRET, TOKEN
from surroundings import FLAGS, world  # noqa: F401  (a fixture)

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
