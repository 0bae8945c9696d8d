"""The code of the analysis: where it is said, and what it is.

What a code is, the consumers' own library says.
"""

from __future__ import annotations

import os
import re
import subprocess
import warnings
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from dispatch.given.inputs import read_object
from dispatch.given.values import Record, compact
from dispatch.records.rest import ask_patiently, limit_answers
from dispatch.terminal.messages import (
    BadInput,
    FailedRun,
    echo,
    excerpt,
    first_of,
    log,
    plural,
)
from dispatch.terminal.secrets import keep_secret
from dispatch.terminal.waiting import begin

if TYPE_CHECKING:
    from aind_data_schema.components.identifiers import Code
    from aind_data_schema.core.processing import DataProcess

PIPELINE = ("CO_PIPELINE_ID", "CO_COMPUTATION_ID", "CODEOCEAN_API_TOKEN")
CODE_OCEAN = "codeocean.allenneuraldynamics.org"
# Names that the library treats as its own: its function's parameters, what it takes out and puts in
# (metadata.update_analysis_process), and its flags (utils_analysis_wrapper.make_cli_model_class).
OF_THE_LIBRARY = {"process", "dispatch_inputs", "dry_run", "file_location", "input_directory"}
HOST = r"[\w.-]+(:[0-9]{1,5})?"
HIDDEN = "..."  # in place of a token
# Answers git with what only the environment holds: what a command is given, every user can see.
ANSWER_GIT = """!f() { printf 'username=%s\\npassword=%s\\n' "$GIT_USER" "$GIT_PASSWORD"; }; f"""
QUIET_GIT = {  # the library asks git for a commit; it must fail where it would ask a person
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "",
    "GIT_SSH_COMMAND": "ssh -o BatchMode=yes",
    "GIT_HTTP_LOW_SPEED_LIMIT": "1",  # bytes a second; with the next, a git that was given up ends
    "GIT_HTTP_LOW_SPEED_TIME": "60",
}


MERGED = (
    "fixed_parameters are merged into distributed_parameters, so that they win over the app panel"
    " of the analysis, which else wins over them"
)
SHARED_FOLDERS = (
    "worker folders hold several tasks: after each, the analysis library uploads all results that"
    " are there, those of the tasks before it as well, and one that fails ends those behind it;"
    " --tasks_per_job 1 gives each task a folder"
)


BOOLEANS = {"true", "false", "yes", "no", "on", "off", "t", "f", "y", "n"}  # to pydantic


@dataclass(frozen=True)
class Panel:
    """What the parameters of the analysis capsule's own app panel are held against."""

    fixed: Record
    sets: list[Record]
    is_to_be_known: bool  # what the worker will take, since results are looked for by that

    def check(self, panel: Record) -> None:
        """Warn of parameters of the panel that do not reach the worker as a task says them.

        In the worker, the panel wins over what is fixed, and a distributed parameter over both.
        Raise BadInput where one is fixed as well, if need be.
        """
        for name, value in sorted(panel.items()):
            if name in OF_THE_LIBRARY or (self.sets and all(name in one for one in self.sets)):
                continue
            if name in self.fixed:
                self.tell_of_two(name, value)
                continue
            kind = read_as(value)
            if kind:
                log.warning(
                    "the parameter %s is %s in the app panel of the analysis capsule: a worker that"
                    " reads that as %s gives its results other names than the column result says,"
                    " and --skip_processed cannot tell that they are there; fix it in"
                    " analysis_parameters.json instead",
                    *(name, compact(value), kind),
                )

    def tell_of_two(self, name: str, value: Any) -> None:
        """Warn of a parameter that is fixed and in the panel, too; raise BadInput if need be."""
        fault = (
            f"the parameter {name} is fixed as {compact(self.fixed[name])}, and"
            f" {compact(value)} in the app panel of the analysis capsule: the worker"
            f" takes that of the panel"
        )
        if self.is_to_be_known:
            unknown = "so the names of its results are not known; take it out of one of the two"
            raise BadInput(f"--skip_processed 1: {fault}, {unknown}")
        log.warning("%s", fault)


def read_as(value: Any) -> str | None:
    """Return what else than a string a worker may read a panel's value as; None if nothing.

    Code Ocean says a value as a string, in which the worker looks for what its analysis wants.
    """
    string = str(value).strip()
    if string.lower() in BOOLEANS:
        return "a boolean"
    with suppress(ValueError):
        float(string)
        return "a number"
    if string.lower() in ("null", "none"):
        return "no value"
    if string.startswith(("[", "{")):
        return "JSON"
    return None


def warn_of_shared_folders(no_code: str | None) -> None:
    """Warn that folders hold several tasks, where it is the analysis library that reads them.

    It does so where tasks say their code, and most likely in any pipeline of Code Ocean.
    """
    if not no_code:
        log.warning("%s", SHARED_FOLDERS)
    elif in_pipeline():
        why = "which is so by default where tasks say their code, and these do not"
        log.warning("%s, %s: %s", SHARED_FOLDERS, why, no_code)


def not_set(names: Sequence[str]) -> str | None:
    """Return which of these environment variables are missing, in words; None if none is."""
    missing = []
    for name in names:
        if not os.environ.get(name, "").strip():
            missing.append(f"${name}")
    return f"{' and '.join(missing)} not set" if missing else None


def in_pipeline() -> bool:
    """Return whether this is a step of a pipeline of Code Ocean."""
    return bool(os.environ.get("CO_PIPELINE_ID", "").strip())


def check_parameters(fixed: Record, sets: list[Record]) -> None:
    """Raise BadInput for parameters that the library would take for something of its own."""
    named = [("fixed_parameters", fixed)]
    for parameters in sets:
        named.append(("distributed_parameters", parameters))
    for where, parameters in named:
        taken = parameters.keys() & OF_THE_LIBRARY
        if taken:
            names = first_of(sorted(taken))
            raise BadInput(f"{where}: the analysis library takes none called {names}")


def begin_find_process(
    code: Path | None, capsule: str, panel: Panel, timeout: int
) -> Future[DataProcess]:
    """Begin to look for what will run the tasks: the code in a file, or a capsule's."""
    os.environ.update(QUIET_GIT)  # before there are threads that read it
    if not code:
        check_domain()
        hide_git_token()
    return begin(find_process, code, capsule, panel, timeout)


def check_domain() -> None:
    """Raise BadInput unless Code Ocean's address is the name of a host: tasks say it, too."""
    domain = os.environ.get("CODEOCEAN_DOMAIN", "")
    if domain and not re.fullmatch(HOST, domain):
        raise BadInput("$CODEOCEAN_DOMAIN must be the name of a host, without https://, path, user")


def hide_git_token() -> None:
    """Let git find its password in the environment, and the library an address without it."""
    token, host = os.environ.get("GIT_ACCESS_TOKEN"), os.environ.get("GIT_HOST")
    if not token or not host:  # as the library has it
        email, host = os.environ.get("CODEOCEAN_EMAIL"), os.environ.get("CODEOCEAN_DOMAIN")
        token = f"{quote(email or '')}:{quote(os.environ['CODEOCEAN_API_TOKEN'])}"
        if not email or not host:
            return
    user, _, password = token.partition(":")
    keep_secret(password)
    os.environ |= {"GIT_USER": unquote(user), "GIT_PASSWORD": unquote(password)}
    os.environ |= {"GIT_ACCESS_TOKEN": HIDDEN, "GIT_HOST": host}
    number = int(os.environ.get("GIT_CONFIG_COUNT") or "0")
    for helper in ("", ANSWER_GIT):  # the first takes away those that the user has
        os.environ[f"GIT_CONFIG_KEY_{number}"] = f"credential.https://{host}.helper"
        os.environ[f"GIT_CONFIG_VALUE_{number}"] = helper
        number += 1
    os.environ["GIT_CONFIG_COUNT"] = str(number)


def find_process(code: Path | None, capsule: str, panel: Panel, timeout: int) -> DataProcess:
    """Return what will run the tasks; raise BadInput, FailedRun.

    The consumer's library, here and in the worker, adds a task and the fixed parameters to it to
    get the task's code.
    """
    from aind_data_schema.core.processing import DataProcess

    warnings.filterwarnings("ignore", module="aind_data_schema")  # of names that MongoDB dislikes
    if code:
        process = DataProcess.model_construct(code=read_code(code), notes=None)
    else:
        process = ask_for_capsule(capsule, timeout)
        panel.check(process.code.parameters.model_dump())
    found = process.code
    names = " ".join(filter(None, (found.name, found.version or found.commit_hash, found.url)))
    log.info("every task says its code: %s, %s", names, plural(len(panel.fixed), "fixed parameter"))
    return process


def read_code(path: Path) -> Code:
    """Return the code that a file describes; raise BadInput."""
    from aind_data_schema.base import GenericModel
    from aind_data_schema.components.identifiers import Code
    from pydantic import ValidationError

    try:
        code = Code.model_validate(read_object(path))
    except ValidationError as error:
        first = error.errors()[0]
        fault = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        given = excerpt(str(first["input"]))
        raise BadInput(f"{path} is not a Code of aind-data-schema: {fault}, not {given}") from None
    if not code.version and not code.commit_hash:
        log.warning("%s has no version and no commit_hash, which tell results apart", path)
    code.parameters = code.parameters or GenericModel()  # which the library cannot do without
    return code


def ask_for_capsule(capsule: str, timeout: int) -> DataProcess:
    """Return what a capsule of the running pipeline is; raise BadInput, FailedRun."""
    from analysis_pipeline_utils import metadata
    from codeocean import CodeOcean

    class Client(CodeOcean):
        def __post_init__(self) -> None:
            super().__post_init__()
            limit_answers(self.session, timeout)

    metadata.CodeOcean = Client  # the library makes a client of its own
    domain = os.environ.get("CODEOCEAN_DOMAIN") or CODE_OCEAN
    log.info("asking Code Ocean at %s for the capsule %s", domain, capsule)
    ask = partial(ask_code_ocean, metadata, domain, capsule)
    return ask_patiently(ask, f"Code Ocean at {domain}", timeout)


def ask_code_ocean(library: Any, domain: str, capsule: str) -> DataProcess:
    """Return what the consumer's library makes of a capsule of the running pipeline.

    Raise BadInput if no capsule, or several, are called so, HTTPError and ValueError as requests.
    """
    from codeocean.error import Error

    describe = library.get_codeocean_process_metadata
    try:
        client = library.CodeOcean(f"https://{domain}", os.environ["CODEOCEAN_API_TOKEN"])
        computation = client.computations.get_computation(os.environ["CO_COMPUTATION_ID"])
        processes = computation.processes or []
        number = 0
        for process in processes:
            if process.capsule_id == capsule:
                return describe(capsule_id=capsule)
            number += capsule in process.name
        if number != 1:
            fault = f"{number or 'no'} capsules of this pipeline are called {capsule!r}"
            names = ", ".join(f"{process.name} ({process.capsule_id})" for process in processes)
            names = echo(names) or "none at all"
            raise BadInput(f"--analysis_capsule: {fault}; there are {names}")
        return describe(capsule_name=capsule)
    except Error as error:
        raise error.http_err from None
    except FileNotFoundError as error:
        raise FailedRun(f"the capsule at Code Ocean has no version, and {error}") from None
    except subprocess.CalledProcessError as error:  # it repeats the address, with the token
        raise ValueError(f"git says {excerpt(echo(error.stderr.strip()), 300)}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"an answer that is not as expected: {echo(repr(error))}") from None
