"""Changes the program at one place at a time, and counts how often the tests notice.

`python code/benchmarks/mutants.py --sample 300` draws places of the program by --seed, and at each
one of the changes that cosmic-ray knows: another operator or number, a condition turned round, a
loop that is never entered. The change is written into the file itself, in a clone of the last
commit, so that every process that a test starts has it. The tests of its folder come first, those
of its topic before all; where they are green, the rest until one fails. `--part 3/40` takes the
third of forty parts of all places. What cannot change what the program does is not counted: an
annotation, what is no Python, and the lines of equal_mutants.txt.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import shlex
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import SimpleQueue

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.testing import run_tests
from cosmic_ray.util import restore_contents
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome

ROOT = Path(__file__).resolve().parents[2]
STORY = ("run_capsule.py", "settings.py")
EQUAL = Path(__file__).with_name("equal_mutants.txt")  # a change a line, below a line that says why
LONGEST = 600  # seconds of a stage; a change that makes tests hang is noticed, too
OUTCOMES = ("folder", "rest", "survived", "equal")  # who notices, if anyone


@dataclass(frozen=True)
class Mutant:
    """One change of a file, with the first line that is another one then."""

    path: Path  # below the repository
    number: int
    old: str
    new: str
    code: str  # of the whole file

    def __str__(self) -> str:
        """Name this change without its number, so that the name holds while lines move."""
        return f"{self.path.relative_to('code')}: {self.old} -> {self.new}"

    @property
    def folder(self) -> str:
        """The folder whose tests should notice."""
        return "story" if self.path.name in STORY else self.path.parts[2]


def places(paths: list[Path], seed: int) -> list[tuple[str, list[MutationSpec]]]:
    """Return the changes that cosmic-ray knows in these files, by place, in a random order.

    Before those of each place stands a string that is drawn by what is written there: most of a
    sample stays the same where some lines of the program have changed.
    """
    found = defaultdict(list)
    lines = {str(path): path.read_text().splitlines() for path in paths}
    with (
        tempfile.TemporaryDirectory() as folder,
        use_db(f"{folder}/session.sqlite", WorkDB.Mode.create) as session,
    ):
        init(paths, session, {})
        for item in session.work_items:
            (change,) = item.mutations
            line, column = change.start_pos
            string = lines[str(change.module_path)][line - 1]
            told = f"{seed} {change.module_path.name} {column} {string}"
            found[sha256(told.encode()).hexdigest(), str(change.module_path), line].append(change)
    return [(place[0], found[place]) for place in sorted(found)]


def mutant_of(change: MutationSpec) -> Mutant | None:
    """Return what a change makes of its file; None for an annotation and what is no Python."""
    path = Path(change.module_path)
    before = path.read_text()
    operator = get_operator(change.operator_name)(**change.operator_args)
    after = mutate_code(before, operator, change.occurrence)
    try:
        if after is None or without_annotations(before) == without_annotations(after):
            return None
    except SyntaxError:
        return None
    lines = zip(before.splitlines(), after.splitlines(), strict=False)
    number, (old, new) = next(at for at in enumerate(lines, 1) if at[1][0] != at[1][1])
    return Mutant(path.relative_to(ROOT), number, old.strip(), new.strip(), after)


def without_annotations(code: str) -> str:
    """Return what code does, without what only a type checker looks at.

    It also sees who gives an argument by a name or a place that a signature does not take it by.
    """
    tree = ast.parse(code)
    for node in ast.walk(tree):
        for name in {"annotation", "returns"} & set(node._fields):
            setattr(node, name, None)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.test = ast.Constant(None)  # imports of types, wherever they are made
        if isinstance(node, ast.arguments):
            node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
            node.defaults += filter(None, node.kw_defaults)
            node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
    return ast.dump(tree)


def drawn(settings: argparse.Namespace) -> Iterator[Mutant]:
    """Yield one change at each place of the part or the sample that is asked for."""
    code = ROOT / "code"
    paths = [code / "run_capsule.py", *sorted((code / "dispatch").rglob("*.py"))]
    found = places(paths, settings.seed)
    if settings.part:
        part, parts = map(int, settings.part.split("/"))
        found = found[part % parts :: parts]
    count = 0
    for string, changes in found:
        if count == settings.sample:
            return
        random.Random(string).shuffle(changes)  # noqa: S311  (of which the first that is one is made)
        mutant = next(filter(None, map(mutant_of, changes)), None)
        if mutant and settings.folder in (None, mutant.folder):
            count += 1
            yield mutant


def clone(folder: Path) -> Path:
    """Return a clone of the repository, with what lies beside it."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "main")], check=True)
    if (shared := ROOT.parent / "shared").exists():
        (folder / "shared").symlink_to(shared)
    return folder / "main"


def noticed(mutant: Mutant, repository: Path, *, own_only: bool) -> tuple[str, str]:
    """Return one of OUTCOMES for a change in this clone, and the test that fails."""
    tests = sorted(path.name for path in (repository / "code" / "tests").glob("test_*.py"))
    # those of the same topic first, then whole runs, which see most
    module = ".".join(mutant.path.with_suffix("").parts[1:])
    folder = repository / "code" / "tests"
    near = {name for name in tests if module in (folder / name).read_text()}
    near |= {name for name in tests if mutant.path.stem in name}
    tests.sort(key=lambda name: (name not in near, "story" not in name))
    own = [name for name in tests if name.startswith(f"test_{mutant.folder}_")]
    rest = [name for name in tests if name not in own]
    with restore_contents(repository / mutant.path):
        (repository / mutant.path).write_text(mutant.code)
        for stage, names in (("folder", own), ("rest", [] if own_only else rest)):
            if names and (failed := first_failed(repository, names)):
                return stage, failed
    return "survived", ""


def first_failed(repository: Path, names: list[str]) -> str:
    """Return the first test of these files that fails; nothing if all are green."""
    log = repository.with_name("log")
    pytest = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider"]
    command = shlex.join([*pytest, *(f"tests/{name}" for name in names)])
    # into a file, since a process that outlives its test would hold a pipe open
    script = f"cd {shlex.quote(f'{repository}/code')} && exec {command} < /dev/null &> {log}"
    result, _ = run_tests(shlex.join(["bash", "-c", script]), LONGEST)
    if result == TestOutcome.SURVIVED:
        return ""
    lines = log.read_text(errors="replace").splitlines()
    return next((line for line in lines if line.startswith(("FAILED", "ERROR"))), "no end")


def all_noticed(
    mutants: Iterable[Mutant], settings: argparse.Namespace
) -> Iterator[tuple[Mutant, str, str]]:
    """Try changes side by side; yield each with one of OUTCOMES and the test that fails."""
    equal = set(EQUAL.read_text().splitlines())
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(settings.workers) as pool,
    ):
        clones: SimpleQueue[Path] = SimpleQueue()
        for number in range(settings.workers):
            clones.put(clone(Path(folder, str(number))))

        def one(mutant: Mutant) -> tuple[Mutant, str, str]:
            if str(mutant) in equal:
                return mutant, "equal", ""
            repository = clones.get()
            try:
                return mutant, *noticed(mutant, repository, own_only=settings.own_only)
            finally:
                clones.put(repository)

        for future in as_completed([pool.submit(one, mutant) for mutant in mutants]):
            yield future.result()


def score(outcomes: list[tuple[str, str]]) -> str:
    """Return a table of how many changes are noticed, from pairs of a folder and an outcome."""
    lines = [f"{'':10}" + "".join(f"{name:>10}" for name in (*OUTCOMES, "noticed"))]
    for folder in (*sorted({folder for folder, _ in outcomes}), "all"):
        here = [outcome for at, outcome in outcomes if folder in (at, "all")]
        counts = [here.count(name) for name in OUTCOMES]
        share = (counts[0] + counts[1]) / max(1, sum(counts[:3]))
        lines.append(f"{folder:10}" + "".join(f"{n:10}" for n in counts) + f"{share:10.1%}")
    return "\n".join(lines)


def main() -> None:
    """Try the changes that are asked for, say each as it is known, and the score at the end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sample", type=int, metavar="N", help="so many places")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of what is drawn (1)")
    parser.add_argument("--part", metavar="K/N", help="the K-th of N parts of all places")
    parser.add_argument("--folder", metavar="NAME", help="places of this folder alone")
    parser.add_argument("--own_only", action="store_true", help="only the tests of the folder")
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="side by side (3)")
    parser.add_argument("--log", type=Path, default="mutants.jsonl", help="appended to, and read")
    settings = parser.parse_args()

    known = {}  # from an earlier run that has ended early, or before a test was added
    if settings.log.exists():
        for line in map(json.loads, settings.log.read_text().splitlines()):
            known[line["mutant"]] = (line["outcome"], line["test"])
    outcomes, mutants = [], []
    for mutant in drawn(settings):
        outcome, _ = known.get(str(mutant), ("survived", ""))
        if outcome == "survived":
            mutants.append(mutant)
        else:
            outcomes.append((mutant.folder, outcome))
    with settings.log.open("a") as log:
        for mutant, outcome, test in all_noticed(mutants, settings):
            outcomes.append((mutant.folder, outcome))
            print(f"{outcome:9} {mutant.path}:{mutant.number}: {mutant.old} -> {mutant.new} {test}")
            line = {"mutant": str(mutant), "line": mutant.number, "outcome": outcome, "test": test}
            log.write(json.dumps(line) + "\n")
            log.flush()
    print(score(outcomes))


if __name__ == "__main__":
    main()
