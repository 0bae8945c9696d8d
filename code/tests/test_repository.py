"""What lies around the program: generated files, documents, the capsule's files, commands."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
import termios
import time
from contextlib import suppress
from functools import cache
from itertools import product
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import forks
import generated
import run_capsule
from conftest import CODE_README, NIGHT, PAGES, PROGRAM, README, ROOT, Run, documents, some
from dispatch.given.values import compact
from dispatch.settings import EPILOG
from dispatch.terminal.messages import plural
from standins import BUCKET, S3, DocDB, Request, record

HOUSE = ROOT / "code" / "dispatch"
ROOMS = sorted(HOUSE.glob("*/*.py"))
FOLDERS = sorted(path.parent.name for path in HOUSE.glob("*/__init__.py"))
SOURCES = [PROGRAM, HOUSE / "settings.py", *ROOMS]


def ended(*words: Any, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; return what it says."""
    return subprocess.run(words, capture_output=True, text=True, check=False, **options)


def test_the_files_that_are_generated_are_fresh() -> None:
    assert generated.PANEL.read_text() == generated.app_panel()
    assert generated.ENVIRONMENT.read_text() == generated.environment()


def test_the_app_panel_and_the_parser_agree() -> None:
    panel = json.loads(generated.PANEL.read_text())
    flags = run_capsule.make_parser()[1]
    fields = {f"--{field['param_name']}": field for field in panel["parameters"]}
    assert flags.keys() - fields.keys() == set(generated.NOT_IN_PANEL)
    assert panel["named_parameters"] is True
    categories = {category["id"]: category["name"] for category in panel["categories"]}
    ids = [*categories, *(field["id"] for field in fields.values())]
    assert len(set(ids)) == len(ids)
    for name, field in fields.items():
        action = flags[name]
        if name == f"--{action.dest}":
            assert (action.help or "").startswith(field["help_text"])
        assert re.fullmatch("[A-Za-z0-9]{16}", field["id"])
        assert categories[field["category"]] in generated.fields_by_category()
        if field["default_value"]:
            assert action.convert(field["default_value"]) == action.default
        elif len(action.option_strings) == 1 and not isinstance(action.default, Path):
            assert action.default in (None, ())
        if "pattern" in field:
            assert re.match(field["pattern"], "")
            assert re.match(field["pattern"], field["default_value"])


def untouched(*but: str) -> list[str]:
    """Return what the app panel passes where no field was filled in, but for some."""
    panel = json.loads(generated.PANEL.read_text())
    values = {field["param_name"]: field["default_value"] for field in panel["parameters"]}
    return [f"--{name}={value}" for name, value in values.items() if name not in but]


OUR_OWN = ("input_directory", "output_directory")  # folders, in which no test writes


# What runs of today's pipelines name, over Code Ocean's API, and a value of each.
NAMED = {
    "docdb_query": '{"name": {"$ne": "b"}}',
    "max_number_of_tasks_dispatched": "2",
    "num_parallel_workers": "1",
    "input_directory": "data",
    "output_directory": "elsewhere",
}


def test_an_untouched_panel_is_accepted_also_beside_the_parameters_of_todays_pipelines(
    run: Run, docdb: DocDB, tmp_path: Path
) -> None:
    docdb.put(*map(record, "abcd"))
    result = run(*untouched(*OUR_OWN), "--query={}")
    assert result.status == 0, result.log
    named = [f"--{name}={value}" for name, value in NAMED.items()]
    result = run(*untouched(*NAMED), *named, output=tmp_path / "elsewhere")
    assert result.status == 0, result.log
    [worker] = result.workers()
    assert sorted(task["asset_name"] for task in worker) == [["a"], ["c"]]


@cache
def tree_of(path: Path) -> ast.Module:
    """Return a file of Python as a tree."""
    return ast.parse(path.read_text())


def test_the_program_is_short_and_written_for_the_first_read() -> None:
    comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
    lines = comprehensions = conditions = 0
    for path in SOURCES:
        length = len(path.read_text().splitlines())
        assert length <= (700 if path == PROGRAM else 350), path
        lines += length
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                assert node.end_lineno - node.lineno < 45, node.name
            conditions += isinstance(node, ast.IfExp)
            if isinstance(node, comprehension):
                comprehensions += 1
                assert len(node.generators) == 1, f"{path}:{node.lineno}"
    assert 1_000 * comprehensions <= 20 * lines
    assert 1_000 * conditions <= 12 * lines


def imports_of(path: Path) -> dict[str, list[int]]:
    """Return the modules that a file imports, and in which lines."""
    lines: dict[str, list[int]] = {}
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            for name in node.names:
                lines.setdefault(name.name, []).append(node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}"
            lines.setdefault(str(node.module), []).append(node.lineno)
            for name in node.names:  # which can be modules, too
                lines.setdefault(f"{node.module}.{name.name}", []).append(node.lineno)
    return lines


def name_of(path: Path) -> str:
    """Return the name by which a file of the program is imported."""
    return ".".join(path.relative_to(ROOT / "code").with_suffix("").parts)


def circle_in(below: dict[str, set[str]]) -> set[str]:
    """Return what stands in a circle, by what each stands on; nothing if nothing does."""
    while below:  # take away those that stand on nothing that is left
        free = {one for one, others in below.items() if not others & below.keys()}
        if not free:
            break
        below = {one: others for one, others in below.items() if one not in free}
    return set(below)


def test_imports_of_the_rooms_go_down_and_stand_at_the_top() -> None:
    rooms = {name_of(path): path for path in ROOMS}
    below = {room: rooms.keys() & imports_of(path).keys() for room, path in rooms.items()}
    assert not circle_in(below)
    for path in SOURCES:
        names = imports_of(path)
        assert not {name for name in names if name.partition(".")[0] == "run_capsule"}, path
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                for name, at in names.items():
                    is_own = name.partition(".")[0] == "dispatch"
                    assert not (is_own and set(lines) & set(at)), f"{path}: {name}"
    for path in (ROOT / "code").rglob("*.py"):
        outside = path.relative_to(ROOT / "code").parts[0]
        if re.search(r"^\s*(from|import) run_capsule\b", path.read_text(), re.MULTILINE):
            assert outside in ("tests", "benchmarks"), path


def test_imports_between_the_folders_go_one_way() -> None:
    below: dict[str, set[str]] = {folder: set() for folder in FOLDERS}
    for path in SOURCES:
        own = path.parent.name if path.parent.parent == HOUSE else "the story"
        for name in imports_of(path):
            top, _, inner = name.partition(".")
            folder = inner.partition(".")[0]
            if top == "dispatch" and folder in FOLDERS and folder != own:
                below.setdefault(own, set()).add(folder)
    assert 5 <= len(FOLDERS) <= 9
    assert sum(map(len, below.values())) <= 45
    order = ["the story", *generated.FOLDERS]  # in which the documents have them
    assert set(order) == below.keys() | {"the story"}
    for folder, others in below.items():
        assert all(order.index(folder) < order.index(other) for other in others), folder


def test_files_of_tests_are_named_for_the_folders_and_import_no_other() -> None:
    about = {*FOLDERS, "story"}
    for path in (ROOT / "code" / "tests").glob("test_*.py"):
        folder = path.stem.split("_")[1]
        assert folder in about or path.stem in ("test_repository", "test_costs"), path
        text = path.read_text()
        assert not re.search(r"^\s*(from|import) test_", text, re.MULTILINE), path


def test_every_room_says_first_what_it_is_and_knows_no_settings() -> None:
    for path in ROOMS:
        assert not re.search(r"\bSettings\b", path.read_text()), path
        said = ast.get_docstring(tree_of(path)) or ""
        assert said, path
        if path.name == "__init__.py":
            assert ("\n\nIt " in said and " not" in said) or " no " in said, path


@pytest.mark.parametrize("document", [README, CODE_README, *PAGES])
def test_the_links_of_the_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", document.read_text())
    assert links or document in PAGES
    for path, anchor in links:
        target = document.parent / path if path else document
        assert target.exists(), path
        if anchor:
            headings = re.findall("^#+ (.*)$", target.read_text(), re.MULTILINE)
            anchors = [re.sub(r"[^\w -]", "", name).lower().replace(" ", "-") for name in headings]
            assert anchor in anchors


def test_the_readme_has_a_section_per_group_of_flags() -> None:
    headings = re.findall("^## (.*)$", README.read_text(), re.MULTILINE)
    flags = generated.flags_by_heading()
    assert [heading for heading in headings if heading in flags] == list(flags)


def test_the_tests_that_the_readme_names_exist() -> None:
    named = set(re.findall("`(test_[a-z0-9_]+)`", CODE_README.read_text()))
    tests = "".join(path.read_text() for path in (ROOT / "code" / "tests").glob("test_*.py"))
    assert len(named) > 10
    assert named <= set(re.findall("^def (test_.*?)\\(", tests, re.MULTILINE))


def test_the_readme_shows_the_function_that_the_program_tells_to_edit() -> None:
    readme = README.read_text()
    [example] = re.findall("```python\n(GROUP_FIELDS.*?)```", readme, re.DOTALL)
    commented = "".join(f"#     {line}".rstrip() + "\n" for line in example.splitlines())
    assert "GROUP_FIELDS" in commented
    assert commented in PROGRAM.read_text()


RUN = "bash environment/run.sh"


def commands_in(document: Path) -> list[tuple[str, str]]:
    """Return the commands of a document, and what it shows that each prints, "" if nothing.

    They are for the folder of the clone. Those for engines have tests of their own.
    """
    text = document.read_text()
    blocks = re.findall("^```(bash|text)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    commands: list[tuple[str, str]] = []
    for language, block in blocks:
        content = re.sub("^(git clone|cd) .*\n", "", block, flags=re.MULTILINE)
        if language == "bash" and RUN in content:
            commands.append((content, ""))
        elif language == "text" and document == README:  # elsewhere they are files
            commands[-1] = (commands[-1][0], content)
    return commands


def runs_in(command: str) -> list[str]:
    """Return the flags of each line of a command that runs the program."""
    whole = re.sub(r"\$\([^)]*\)", "now", command.replace("\\\n", " "))
    return re.findall(f"^{RUN}(.*)$", whole, re.MULTILINE)


WITH_COMMANDS = [path for path in (README, *PAGES) if commands_in(path)]


@pytest.mark.parametrize("document", WITH_COMMANDS)
def test_the_flags_in_the_documents_are_accepted(document: Path) -> None:
    commands = commands_in(document)
    assert commands
    for command, _ in commands:
        for flags in runs_in(command):
            words = shlex.split(flags)
            assert not words or run_capsule.parse_flags(words), command


def timeless(log: str) -> str:
    """Return a log without the time of each line, and without how long the run took."""
    times = r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d|\d+\.\d s$"
    return re.sub(times, "…", log, flags=re.MULTILINE)


# What the documents choose among, beside the bundled records.
NAMED_RECORDS = [
    ("behavior_774659_2025-06-07_14-31-15", ("behavior.nwb",), {}),
    ("behavior_827183_2026-02-07_17-14-12", ("metadata.json",), {}),
    ("ecephys_643634_2025-03-09_10-00-00", ("a.ap.bin", "a.ap.meta"), {"subject_id": "643634"}),
    ("ecephys_643635_2025-03-10_10-00-00", ("a.ap.bin", "a.ap.meta"), {"subject_id": "643635"}),
]


def put_what_the_documents_name(docdb: DocDB, s3: S3) -> None:
    """Give the services what the commands of the documents choose."""
    about = {"project_name": "Dynamic Routing", "data_level": "raw"}
    for name, files, subject in NAMED_RECORDS:
        session = {"session_start_time": f"{name.split('_')[2]}T10:00:00"}
        docdb.put(record(name, data_description=about, subject=subject, session=session))
        s3.put(BUCKET, [f"{name}/{file}" for file in files])


@pytest.mark.parametrize("document", WITH_COMMANDS)
def test_the_commands_in_the_documents_run_as_shown(
    document: Path, services: dict[str, str], docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    # one after the other, as a reader would, in a copy of this folder; "…" stands for anything
    put_what_the_documents_name(docdb, s3)
    for name in ("code", "data", "environment"):
        unused = shutil.ignore_patterns("tests", "__*", ".*_cache", ".hypothesis")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=unused)
    for name in ("results", ".venv"):
        (tmp_path / name).mkdir()
    (tmp_path / "names.txt").write_text("".join(f"{name}\n" for name, _, _ in NAMED_RECORDS))
    only_tools(tmp_path / ".venv" / "bin", python="" if NIGHT else forks.__file__)
    shutil.copy(
        ROOT / "environment" / "requirements.txt", tmp_path / ".venv/requirements.installed"
    )
    commands = commands_in(document)
    assert len(commands) > 1
    assert document != README or len([shown for _, shown in commands if shown]) > 1
    for command, shown in commands:
        whole = f"exec 2>&1\n{command}"
        env = {**services, "FORKS": os.environ["FORKS"]}
        done = ended("bash", "-ec", whole, cwd=tmp_path, env=env)
        last = done.stdout.splitlines()[-1]
        assert (done.returncode == 0) == (not last.startswith("error: ")), done.stdout
        assert done.returncode == 0 or shown, done.stdout
        pattern = re.escape(timeless(shown)).replace("…", ".*") or "(?s:.*)"
        assert re.fullmatch(pattern, timeless(done.stdout)), done.stdout


def test_the_filters_in_the_readme_can_be_asked(run: Run) -> None:
    filters = re.findall(r"^\| [^|]+ \| `(\{.*\})` \|$", README.read_text(), re.MULTILINE)
    assert len(filters) > 3
    for query in filters:
        snapshot = f"--records={ROOT / 'data' / 'metadata.jsonl'}"
        result = run(snapshot, f"--query={query}", "--overwrite=1")
        assert result.status == 0 or "error: nothing to dispatch" in result.error, result.log


def test_the_groups_in_the_readme_are_those_of_the_bundled_records(run: Run) -> None:
    row = r"^\| [a-z ]*`(--\w+) ([\w.]+)` \| (`.*) \|$"
    rows = re.findall(row, README.read_text(), re.MULTILINE)
    assert len(rows) == 2
    flags = [f"--records={ROOT / 'data' / 'metadata.jsonl'}", "--query={}", "--overwrite=1"]
    for flag, field, shown in rows:
        flags.append(f"{flag}={field}")
        groups = []
        for task in run(*flags).tasks():
            [value] = task["group_metadata"].values()
            number = plural(len(task["asset_name"]), "asset")
            groups.append(f"`{compact(value)}`: {number}")
        assert shown == ", ".join(groups)


def test_the_errors_in_the_readme_are_those_of_the_program() -> None:
    strings = []  # of f-strings, the parts between what is filled in
    for path in SOURCES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                strings.append(node.value)
    errors = re.findall("`(error: .*?)`", documents())
    assert len(errors) > 10
    for error in errors:
        for part in re.split("…| at |--[a-z_]+:", error.removeprefix("error: ")):
            words = part.strip(" :;,.()")
            assert any(words in string for string in strings), error


def test_the_capsules_files_fit_together() -> None:
    environment = json.loads((ROOT / ".codeocean" / "environment.json").read_text())
    dockerfile = (ROOT / "environment" / "Dockerfile").read_text()
    assert f"FROM $REGISTRY_HOST/{environment['base_image']}" in dockerfile
    # what a build is given stays in the image's history, where whoever has the image reads it
    assert environment["args"] == []
    assert "AWS_" not in dockerfile
    resources = json.loads((ROOT / ".codeocean" / "resources.json").read_text())
    assert resources == {"version": 1, "resource_class": "xsmall"}


def test_actions_are_named_by_their_commits() -> None:
    used = []
    for path in (ROOT / ".github" / "workflows").iterdir():
        used += re.findall(r"uses: *(.+)", path.read_text())
    assert used
    for action in used:
        assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[0-9.]+", action), action


def test_the_bundled_example_runs_from_the_run_button(tmp_path: Path) -> None:
    root = tmp_path / "capsule"
    shutil.copytree(ROOT / "data", root / "data")
    shutil.copytree(ROOT / "code", root / "code", ignore=shutil.ignore_patterns("tests", "__*"))
    (root / "results").mkdir()
    (tmp_path / "code").symlink_to(root / "code")
    bin_folder = str(Path(sys.executable).parent)
    done = ended(
        *("./run", "--records=metadata.jsonl", "--query=query.json", "--file_extension=.nwb"),
        cwd=tmp_path / "code",
        env={"PATH": f"{bin_folder}:{os.environ['PATH']}", "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    workers = sorted((root / "results").glob("[!.]*"))
    assert [path.name for path in workers] == ["0", "1", "2", "3"]


def test_the_bundled_example_has_zarrs_and_a_csv_too(run: Run) -> None:
    bundled = ("--records=metadata.jsonl", f"--input_directory={ROOT / 'data'}", "--overwrite=1")
    zarrs = run(*bundled, "--query=query.json", "--file_extension=.zarr")
    assert (zarrs.status, zarrs.names()) == (0, ["0", "1"]), zarrs.log
    listed = run(*bundled, "--use_data_asset_csv=1", "--file_extension=.nwb")
    assert (listed.status, listed.names()) == (0, ["0", "1", "2"]), listed.log
    [task] = listed.workers()[2]
    assert task["asset_name"] == ["behavior_700102_2025-03-04_10-40-02"]


def only_tools(folder: Path, **pythons: str) -> str:
    """Return a PATH with what code/run needs, and Pythons with these flags; -S has no packages."""
    folder.mkdir()
    for name in ("bash", "dirname", "readlink"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, flags in pythons.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {flags} "$@"\n')
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("name", ["python", "python3", "both"])
def test_the_run_button_needs_python_or_python3(name: str, tmp_path: Path) -> None:
    # where there are both, python is the one that the packages are for
    pythons = {"python": "", "python3": "-S"} if name == "both" else {name: ""}
    done = ended(
        *(ROOT / "code" / "run", "--records=metadata.jsonl", "--query=query.json"),
        f"--output_directory={tmp_path / 'results'}",
        env={"PATH": only_tools(tmp_path / "bin", **pythons), "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "results").glob("[!.]*"))) == 4


def test_a_python_without_the_packages_is_told_in_one_line(tmp_path: Path) -> None:
    done = ended(
        *(ROOT / "code" / "run", f"--output_directory={tmp_path / 'results'}", "--query={}"),
        env={"PATH": only_tools(tmp_path / "bin", python3="-S"), "HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: a Python package is missing (No module named '")
    assert last.endswith("environment/run.sh installs it")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()


PACKAGES = ["aind_data_access_api", "analysis_pipeline_utils", "mgqpy", "boto3", "botocore",
            "awscrt", "pydantic", "jinja2", "requests", "urllib3", "pydantic_core"]  # fmt: skip


@pytest.mark.parametrize("package", some(PACKAGES, 5))  # by day those that most others stand on
def test_any_package_that_is_missing_is_told_in_one_line(
    package: str, run: Run, docdb: DocDB, s3: S3, tmp_path: Path
) -> None:
    docdb.put(*(record(name) for name in "ab"))
    s3.put(BUCKET, ["a/1.nwb", "b/1.nwb"])
    (tmp_path / "s.jsonl").write_text(json.dumps(record("a")))
    (tmp_path / "data" / "data_asset_input.csv").write_text("asset_id\nco-a\n")
    missing = f"raise ModuleNotFoundError(\"No module named '{package}'\")"
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / f"{package}.py").write_text(missing)
    flags = {"mgqpy": ["--records=s.jsonl"]}
    result = run(
        *flags.get(package, ["--query={}"]),
        *("--query={}", "--file_extension=nwb", "--dry_run=1"),
        env={"PYTHONPATH": str(tmp_path / "shadow")},
    )
    assert result.status == 1, result.log
    assert f"missing (No module named '{package}'): bash environment/run.sh" in result.error
    assert "Traceback" not in result.log
    assert not result.names()


EXAMPLE = ["--records=metadata.jsonl", "--query=query.json", "--file_extension=.nwb"]


@pytest.mark.parametrize("flags", [["-I"], []])
def test_a_program_without_its_rooms_says_so_in_one_line(flags: list[str], tmp_path: Path) -> None:
    program = PROGRAM
    if not flags:
        program = Path(shutil.copy(PROGRAM, tmp_path))
    output = f"--output_directory={tmp_path / 'results'}"
    done = ended(sys.executable, *flags, program, *EXAMPLE, output, cwd=tmp_path)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: the folder dispatch must lie beside run_capsule.py")
    assert not (tmp_path / "results").exists()


def test_the_program_runs_from_anywhere_and_through_links(tmp_path: Path) -> None:
    # in a checkout that nothing can be written into, but for its results
    root = tmp_path / "root"
    for name in ("code", "data"):
        unused = shutil.ignore_patterns("tests", "benchmarks", "__*", ".*")
        shutil.copytree(ROOT / name, root / name, ignore=unused)
    (root / "results").mkdir()
    (tmp_path / "link.py").symlink_to(root / "code" / "run_capsule.py")
    (tmp_path / "link-to-link.py").symlink_to(tmp_path / "link.py")
    (tmp_path / "code").symlink_to(root / "code")
    for path in (root / "code").rglob("*"):
        path.chmod(0o555)
    programs = ("link.py", "link-to-link.py", "code/run_capsule.py", "code/run")
    for program, folder in some(product(programs, (tmp_path, Path("/"))), 4):
        starter = [] if program.endswith("run") else [sys.executable]
        done = ended(
            *(*starter, tmp_path / program, *EXAMPLE, "--overwrite=1"),
            env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr
        assert len(list((root / "results").glob("[!.]*"))) == 4


def test_an_interpreter_that_goes_on_after_a_run_ends_normally(tmp_path: Path) -> None:
    code = "import sys, run_capsule; sys.exit(run_capsule.main())"
    running = []
    runs = 50 if NIGHT else 3
    for number in range(runs):
        flags = [*EXAMPLE, "--dry_run=1", f"--output_directory={tmp_path / str(number)}"]
        command = [sys.executable, "-c", code, *flags]
        running.append(subprocess.Popen(command, cwd=PROGRAM.parent, stdout=subprocess.DEVNULL))
        if number >= 4:
            running[number - 4].wait()
    assert [process.wait() for process in running] == [0] * runs


def test_help_imports_nothing_heavy_and_names_every_flag() -> None:
    code = (
        "import sys, run_capsule\n"
        "try: run_capsule.main(['--help'])\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(*(name.split('.')[0] for name in sys.modules), file=sys.stderr)"
    )
    done = ended(sys.executable, "-c", code, cwd=PROGRAM.parent)
    assert done.returncode == 0, done.stderr
    heavy = {"aind_data_access_api", "aind_data_schema", "analysis_pipeline_utils", "boto3",
             "botocore", "codeocean", "mgqpy",
             "numpy", "pandas", "pydantic", "requests", "s3fs", "tqdm"}  # fmt: skip
    assert not heavy & set(done.stderr.split())
    assert all(name in done.stdout for name in run_capsule.make_parser()[1])


def test_progress_is_a_line_on_a_terminal_and_lines_of_the_log_elsewhere(
    run: Run, docdb: DocDB, s3: S3
) -> None:
    docdb.put(*(record(f"{n:02}") for n in range(60)))
    s3.put(BUCKET, [f"{n:02}/{name}.nwb" for n in range(60) for name in "ab"])

    def hold(request: Request) -> None:  # the last asset, for some lines and frames
        if request.query.get("prefix") == "59/":
            time.sleep(1)

    s3.fault = hold
    words = r"60 records, \d+ of 60 assets listed, \d+ files, [\d.]+ assets/s, \d+ s left"
    flags = ("--query={}", "--file_extension=.nwb", "--overwrite=1", "--max_connections=2")
    logged = run(*flags, constants={"SECONDS_PER_LINE": 0.2})
    assert logged.status == 0, logged.log
    lines = re.findall(f"^[0-9:]+ INFO {words}$", logged.log, re.MULTILINE)
    assert lines
    assert not re.search(words, run(*flags, constants={"SECONDS_PER_LINE": 10_000}).log)
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 160))
    frames: list[bytes] = []

    def watch() -> None:  # a terminal that nobody reads takes no more than so much
        with suppress(OSError):  # which is how its end is told
            while shown := os.read(master, 65_536):
                frames.append(shown)

    watching = Thread(target=watch)
    watching.start()
    done = run(*flags, stderr=slave)
    os.close(slave)
    watching.join()
    os.close(master)
    shown = b"".join(frames).decode()
    assert done.status == 0, shown
    assert len(re.findall(words, shown)) > 1
    assert shown.count("dispatched to") == 1


def test_the_version_is_told() -> None:
    done = ended(sys.executable, PROGRAM, "--version")
    said = f"aind-analysis-job-dispatch {run_capsule.VERSION}\n"
    assert (done.returncode, done.stdout) == (0, said)


NEAREST = {
    "--file_extention=nwb": "--file_extension",
    "--file-extension": "--file_extension",
    "--maxjobs": "--max_jobs",
    "-query": "--query",
    "--Query={}": "--query",
    "--qwertyuiop": "",
}


@pytest.mark.parametrize("flag", NEAREST)
def test_a_mistyped_flag_gets_the_nearest_one(flag: str, run: Run) -> None:
    nearest = NEAREST[flag]
    result = run("--query={}", flag)
    assert result.status == 2
    assert f"there is no flag {flag!r}" in result.error
    assert (f"did you mean {nearest}?" in result.error) == bool(nearest)


def test_the_examples_of_the_help_are_accepted() -> None:
    text = EPILOG.replace("\\\n", " ")
    examples = re.findall("^    run_capsule.py (.*)$", text, re.MULTILINE)
    assert len(examples) == 4
    for example in examples:
        assert run_capsule.parse_flags(shlex.split(example))
    assert EPILOG in run_capsule.make_parser()[0].format_help()


def test_a_python_that_is_too_old_is_told(tmp_path: Path) -> None:
    root, tools = tmp_path / "repo", tmp_path / "bin"
    shutil.copytree(ROOT / "environment", root / "environment")
    tools.mkdir()
    for name in ("bash", "dirname", "cmp", "rm"):
        (tools / name).symlink_to(str(shutil.which(name)))
    (tools / "python3").write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\n')
    (tools / "python3").chmod(0o755)
    command = ("bash", root / "environment" / "run.sh")
    done = ended(*command, env={"PATH": str(tools), "HOME": str(tmp_path)})
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    needed = "error: Python 3.11, 3.12 or 3.13 is needed, and python3 is Python 3.9.2"
    assert line.startswith(needed)
    assert not (root / ".venv").exists()


def committed_files() -> list[Path]:
    """Return the files of the repository."""
    listed = ended("git", "ls-files", "-z", cwd=ROOT).stdout
    return [ROOT / name for name in listed.split("\0") if name]


def test_what_is_committed_is_what_the_design_says() -> None:
    files = committed_files()
    top = {path.relative_to(ROOT).parts[0] for path in files}
    assert {name for name in top if not name.startswith(".")} == {
        "code", "environment", "data", "results", "README.md", "LICENSE",
    }  # fmt: skip
    binary = set()
    for path in files:
        content = path.read_bytes()
        assert str(ROOT).encode() not in content, path  # nothing names this machine
        assert not re.search(rb"^(<{7}|>{7}) ", content, re.MULTILINE), path  # left by a merge
        if b"\0" in content and not path.is_relative_to(ROOT / "data"):
            binary.add(path)
    assert binary == {ROOT / "code" / "benchmarks" / "plan.png"}
