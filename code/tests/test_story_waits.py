"""Nothing waits without an end, whichever service goes wrong, at whichever step, in whichever way.

By day some of the table is tried, drawn anew each time, at night all of it.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha1
from itertools import product
from pathlib import Path

import pytest

from conftest import NIGHT, Result, Run
from faulty import FAULTS, STEPS, Faulty
from forks import Server
from pipelines import Pipeline
from standins import BUCKET, S3, DocDB, record

FLAGS = ("--query={}",)
FILES = "--file_extension=nwb"
FEW = {"TRIES": 2, "LIST_TRIES": 2, "LONGEST_PAUSE": 0.1}
PATIENT = {**FEW, "TRIES": 20}  # while botocore is read, which takes a busy machine some seconds
SECONDS = 30  # two tries of a second, and the pauses, with all that a busy machine takes beside
NO_KEYS = "AWS_ACCESS_KEY_ID= AWS_SECRET_ACCESS_KEY="
LISTED = f"cannot list s3://{BUCKET}/a of asset a: "
MEGABYTES = 150  # a run takes some 100 MB by itself; what comes in is read up to a bound

Environment = dict[str, str | None]


NO_DOCDB, NO_CODE_OCEAN = (f"no usable answer from {name} at" for name in ("DocDB", "Code Ocean"))
# The variables that lead a run to a server that goes wrong, at {}, as a shell has them (what is
# empty is not set), and what its last line says then.
SERVICES = {
    "docdb": ("DOCDB_HOST={}", NO_DOCDB),
    "code ocean": ("CODEOCEAN_DOMAIN={}", NO_CODE_OCEAN),
    "git": ("GIT_HOST={} GIT_CONFIG_COUNT= GIT_SSL_NO_VERIFY=1 CO_CAPSULE_BRANCH=main",
            NO_CODE_OCEAN),
    "s3": ("AWS_ENDPOINT_URL=http://{}", LISTED),
    "s3 over tls": ("AWS_ENDPOINT_URL=https://{}", LISTED),
    "proxy": ("AWS_ENDPOINT_URL=https://s3.example.org NO_PROXY=localhost HTTPS_PROXY=http://{}",
              LISTED),
    # where it does not answer there are no keys, as boto3 has it
    "imds": (f"{NO_KEYS} AWS_EC2_METADATA_DISABLED= AWS_EC2_METADATA_SERVICE_ENDPOINT=http://{{}}/",
             ""),
    "container": (f"{NO_KEYS} AWS_CONTAINER_CREDENTIALS_FULL_URI=http://{{}}/keys", "AWS: "),
    "sts": (f"{NO_KEYS} AWS_CONFIG_FILE=sts AWS_ENDPOINT_URL_STS=http://{{}}", "AWS: "),
    "sso": (f"{NO_KEYS} AWS_CONFIG_FILE=sso AWS_ENDPOINT_URL_SSO=http://{{}}", "AWS: "),
}  # fmt: skip
STS = """[default]
role_arn = arn:aws:iam::123456789012:role/r
source_profile = base
[profile base]
aws_access_key_id = AKID
aws_secret_access_key = secret
"""
START = "https://x.example.org/start"
SSO = f"""[default]
sso_start_url = {START}
sso_region = us-west-2
sso_account_id = 123456789012
sso_role_name = reader
"""
SPEAK_TLS = ("docdb", "code ocean", "git", "s3 over tls")
ASKED_FIRST = ("docdb", "code ocean", "git")  # where no files are looked for
BY_BOTOCORE = ("imds", "container", "sts", "sso")  # whose own words are repeated
OVER_AWSCRT = ("s3", "s3 over tls", "proxy")


def be_logged_in(folder: Path) -> None:
    """Write the profiles of those who have a role, or have logged in, and the latter's token."""
    (folder / "sts").write_text(STS)
    (folder / "sso").write_text(SSO)
    end = datetime.now(UTC) + timedelta(hours=1)
    token = {"accessToken": "token-of-sso", "expiresAt": end.strftime("%Y-%m-%dT%H:%M:%SZ")}
    cache = folder / "home/.aws/sso/cache"
    cache.mkdir(parents=True)
    name = sha1(START.encode(), usedforsecurity=False).hexdigest()
    (cache / f"{name}.json").write_text(json.dumps(token))


def led_to(server: str, service: str) -> Environment:
    """Return the variables that lead a run to a host in place of a service."""
    variables: Environment = {}
    for word in SERVICES[service][0].split():
        name, _, value = word.partition("=")
        variables[name] = value.format(server) or None
    return variables


def steps_of(service: str) -> list[str]:
    """Return the steps that a service has."""
    if service == "proxy":
        return ["connect", "tunnel"]
    return [step for step in STEPS if step != "tunnel" and (step != "tls" or service in SPEAK_TLS)]


def table_of(service: str) -> list[tuple[str, str]]:
    """Return what can go wrong with a service: the steps, each with the ways."""
    table = []
    for step, fault in product(steps_of(service), FAULTS):
        if step == "connect" and fault not in ("stalls", "cut"):
            continue  # there is nothing to send yet
        table.append((step, fault))
    return table


@pytest.mark.parametrize("service", SERVICES)
def test_whatever_goes_wrong_with_a_service_the_run_ends_in_time_and_says_so(
    service: str, run: Run, docdb: DocDB, s3: S3, pipeline: Pipeline, tmp_path: Path
) -> None:
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x.nwb"])
    be_logged_in(tmp_path)
    flags = FLAGS if service in ASKED_FIRST else (*FLAGS, FILES)
    constants = PATIENT if service in OVER_AWSCRT else FEW
    base = pipeline.environment if service in ("code ocean", "git") else {}
    pipeline.put(version=None)
    tls = None
    if service in SPEAK_TLS:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        docdb.certificate.configure_cert(tls)
    table = table_of(service)
    faults = []
    for step, fault in random.sample(table, len(table) if NIGHT else 1):
        with closing(Faulty(step, fault, tls)) as server:
            env = {**base, **led_to(f"localhost:{server.port}", service)}
            started = time.monotonic()
            result = run(*flags, "--timeout=1", env=env, constants=constants)
            seconds = time.monotonic() - started
        is_held = service in OVER_AWSCRT and fault == "endless" and step != "body"
        late = "nothing within 1 s (--timeout)" if fault in ("stalls", "drips") else ""
        why = fault_of(result, SERVICES[service][1], seconds, is_held)
        if service not in BY_BOTOCORE and late not in result.error:
            why = "not the right cause"
        if step == "trailers" and "0 records matched" in result.error:  # the body is whole
            why = ""
        if why:
            took = f"{seconds:.0f} s, {result.megabytes:.0f} MB"
            faults.append(f"{service}, {step} {fault}: {why}; {took}; {result.log}")
    assert not faults, "\n\n".join(faults)


def fault_of(result: Result, words: str, seconds: float, is_held: bool) -> str:
    """Return what is wrong with the end of a run, "" if nothing is."""
    last = result.error.removeprefix("error: ")
    if seconds > SECONDS:
        return "too long"
    if result.status != 1 or result.names():
        return f"status {result.status}"
    if (
        len(re.findall("(?m)^error: ", result.log)) != 1
        or last == result.error
        or "Traceback" in result.log
    ):
        return "not one last line"
    if words not in last or re.match(r"\w+Error: ", last) or last.endswith(": "):
        return "wrong words"
    if result.megabytes > MEGABYTES and not is_held:
        return "too much memory"
    return ""


# Lets the system find no address of a host, without an end.
NO_NAMES = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
  if (node && strstr(node, "stalls.example")) sleep(100);
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
      dlsym(RTLD_NEXT, "getaddrinfo");
  return real(node, service, hints, found);
}
"""


@pytest.fixture(scope="session")
def no_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a library that lets names of hosts be looked for without an end."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("needs a compiler: apt-get install gcc")
    library = tmp_path_factory.mktemp("names") / "names.so"
    source = library.with_suffix(".c")
    source.write_text(NO_NAMES)
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def test_a_name_that_is_looked_for_without_an_end_ends_the_run(
    run: Run, docdb: DocDB, s3: S3, pipeline: Pipeline, tmp_path: Path, no_names: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x.nwb"])
    be_logged_in(tmp_path)

    def run_without_names(service: str) -> Result:
        env = pipeline.environment if service == "code ocean" else {}
        return run(
            *(FLAGS if service in ASKED_FIRST else (*FLAGS, FILES)),
            "--timeout=1",
            output=tmp_path / f"of {service}",
            env={**env, **led_to("stalls.example", service), "LD_PRELOAD": str(no_names)},
            real=NIGHT or service == "sts",
            constants=PATIENT if service in OVER_AWSCRT else FEW,
        )

    monkeypatch.setenv("LD_PRELOAD", str(no_names))
    with closing(Server()) as forks:  # in which names are looked for so, too
        monkeypatch.delenv("LD_PRELOAD")
        monkeypatch.setenv("FORKS", forks.address)
        started = time.monotonic()
        with ThreadPoolExecutor() as side_by_side:
            services = ["docdb", "code ocean", "s3", "proxy", "sts"]
            results = list(side_by_side.map(run_without_names, services))
        assert time.monotonic() - started < 2 * SECONDS  # with all tries, and pauses between them
    for service, result in zip(services, results, strict=True):
        assert result.status == 1, result.log
        assert SERVICES[service][1] in result.error
        late = "no credentials in 5 s" if service == "sts" else "nothing within 1 s (--timeout)"
        assert late in result.error
