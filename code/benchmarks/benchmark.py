"""Measure this program against the ways in which assets have been listed so far.

`python code/benchmarks/benchmark.py` prints a table for each thing that is measured, every method
as a process of its own against the same stand-ins (servers.py). `--only WORDS` takes the tables
whose title has these words, `--figure` measures a growing number of assets instead, and draws
benchmark.svg. `--also PATH` measures another run_capsule.py as well, in turn with this one.

Absolute seconds belong to the machine that they were measured on; what can be quoted are ratios of
one run, and processor time. Each row is the quickest of `--runs`. With TMPDIR=/dev/shm, the disk
has no part in it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
PROGRAM = FOLDER.parent / "run_capsule.py"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

from servers import BUCKET, EXTENSIONS, SHAPES, World, asset_name  # noqa: E402

from dispatch.stores.closed import FileNames  # noqa: E402

LATENCY = 0.05
THREADS = 64  # of the other methods
WORKLOADS = {
    "500 assets of 120 objects": ("session", 500),
    "4 assets of ten Zarr stores with 10,000 chunks": ("zarr", 4),
    "4 assets of 10,000 folders with 5 files": ("tiny-folders", 4),
    "1 asset of 200 folders with 1,000 images": ("images", 1),
    "5,000 assets of 20 objects": ("small", 5_000),
}


# -------------------------------------------------------------------- other methods, in a process


def with_glob(locations: list[str], extension: str) -> int:
    """List one asset after the other, as dispatchers did."""
    import s3fs

    filesystem = s3fs.S3FileSystem()
    return sum(len(filesystem.glob(f"{location}/**/*{extension}")) for location in locations)


def with_glob_in_threads(locations: list[str], extension: str) -> int:
    """List with s3fs in a pool of threads."""
    import s3fs

    filesystem = s3fs.S3FileSystem(config_kwargs={"max_pool_connections": THREADS})
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda at: filesystem.glob(f"{at}/**/*{extension}"), locations)
        return sum(map(len, found))


def with_boto3_in_threads(locations: list[str], extension: str) -> int:
    """List with boto3's paginator in a pool of threads."""
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(max_pool_connections=THREADS))
    names = FileNames([extension])

    def find(location: str) -> int:
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        keys = (item["Key"] for page in pages for item in page.get("Contents", ()))
        files = (names.file_of(key[len(prefix) + 1 :])[0] for key in keys)
        return len({file for file in files if file})

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(find, locations))


METHODS = {
    "one s3fs.glob after the other": with_glob,
    f"s3fs.glob in {THREADS} threads": with_glob_in_threads,
    f"boto3 paginator in {THREADS} threads": with_boto3_in_threads,
}
PROGRAMS = {"this program": PROGRAM}  # and those of --also


# ------------------------------------------------------------------------------------- measuring

LONG = 20  # seconds; what takes longer is measured once


@dataclass(frozen=True)
class Services:
    """The stand-ins, as they run."""

    shape: str
    assets: int
    environment: dict[str, str]  # which leads a program to them

    @property
    def folder(self) -> Path:
        """A folder that is gone when they are."""
        return Path(self.environment["TMPDIR"])

    def stats(self) -> dict[str, Any]:
        """Return what has been asked since the last time."""
        url = self.environment["AWS_ENDPOINT_URL"] + "/stats"
        context = ssl.create_default_context(cafile=self.environment["AWS_CA_BUNDLE"])
        with urllib.request.urlopen(url, context=context if url[:5] == "https" else None) as answer:
            return dict(json.load(answer))


@contextmanager
def services(shape: str, assets: int, *flags: str, latency: float = LATENCY) -> Iterator[Services]:
    """Start the stand-ins, with flags of servers.py."""
    with tempfile.TemporaryDirectory() as folder:
        command: list[Any] = [
            sys.executable,
            FOLDER / "servers.py",
            shape,
            str(assets),
            str(latency),
            folder,
        ]
        server = subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True)
        try:
            s3, docdb, ca_file = json.loads(server.stdout.readline() if server.stdout else "")
            environment = {
                "PATH": os.environ["PATH"],
                "HOME": folder,
                "DOCDB_HOST": docdb,
                "REQUESTS_CA_BUNDLE": ca_file,
                "AWS_CA_BUNDLE": ca_file,
                "AWS_ENDPOINT_URL": s3,
                "AWS_ACCESS_KEY_ID": "example",
                "AWS_SECRET_ACCESS_KEY": "example",
                "AWS_DEFAULT_REGION": "us-west-2",
                "AWS_EC2_METADATA_DISABLED": "true",
                "TMPDIR": folder,
            }
            yield Services(shape, assets, environment)
        finally:
            server.kill()
            server.wait()


@dataclass(frozen=True)
class Figure:
    """What one process took, start-up included."""

    seconds: float
    processor: float  # seconds of it
    memory: int  # MB, at the peak
    requests: int  # that were answered
    refused: int  # with SlowDown
    connections: int  # on which S3 was asked to list
    first_list: float  # seconds until S3 was asked to list
    fault: str  # the last line of a process that failed, or what is wrong with its tasks


def measure(at: Services, command: list[Any], limit: Callable[[], None] | None = None) -> Figure:
    """Run a command to its end, `limit` being called in its process before; return what it took."""
    at.stats()
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env=at.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=limit,
    )
    log = process.stderr.read().decode() if process.stderr else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    stats = at.stats()
    refused = stats["requests"].pop("SlowDown", 0)
    return Figure(
        seconds=seconds,
        processor=usage.ru_utime + usage.ru_stime,
        memory=usage.ru_maxrss // 1024,
        requests=sum(stats["requests"].values()),
        refused=refused,
        connections=stats["connections"],
        first_list=max(0.0, stats["first_list"] - started),
        fault=log.strip().rpartition("\n")[2] or f"status {status}" if status else "",
    )


def run_method(at: Services, method: str) -> Figure:
    """Measure one of the other methods."""
    command = [sys.executable, __file__, "--method", method, at.shape, str(at.assets)]
    return measure(at, command)


def run_s5cmd(at: Services) -> Figure:
    """Measure s5cmd, a tool in Go that is known to be fast: one ls for each asset, in one run.

    It neither asks DocDB nor writes anything.
    """
    commands = at.folder / "commands"
    lines = [f"ls s3://{BUCKET}/{asset_name(number)}/*" for number in range(at.assets)]
    commands.write_text("\n".join(lines))
    s5cmd = str(Path(sys.executable).with_name("s5cmd"))
    at.environment["S3_ENDPOINT_URL"] = at.environment["AWS_ENDPOINT_URL"]
    trust = [] if "http:" in at.environment["AWS_ENDPOINT_URL"] else ["--no-verify-ssl"]
    return measure(at, [s5cmd, *trust, "--no-sign-request", "run", str(commands)])


def run_program(
    at: Services,
    program: Path,
    *flags: str,
    find: bool = True,
    limit: Callable[[], None] | None = None,
) -> Figure:
    """Measure a program, and look whether it writes all tasks; without `find` it lists nothing."""
    tasks = at.assets
    if find:
        flags = (*flags, f"--file_extension={EXTENSIONS[at.shape]}")
        tasks *= files_of(at.shape)
    with tempfile.TemporaryDirectory(dir=at.folder) as output:
        command = [sys.executable, program, "--query={}", f"--output_directory={output}", *flags]
        figure = measure(at, command, limit)
        written = sum(1 for _ in Path(output).glob("*/*.json"))
    if not figure.fault and written != tasks:
        return replace(figure, fault=f"{written} tasks instead of {tasks}")
    return figure


def files_of(shape: str) -> int:
    """Return how many files an asset of this shape has."""
    names = FileNames([EXTENSIONS[shape]])
    return len({names.file_of(key)[0] for key in SHAPES[shape]()} - {None})


def least_requests(shape: str) -> int:
    """Return the pages that an asset of this shape takes at least, closed folders jumped over."""
    keys, names = sorted(SHAPES[shape]()), FileNames([EXTENSIONS[shape]])
    pages = start = 0
    while start < len(keys):
        pages += 1
        start += 1_000  # keys, what S3 answers with at most
        _, closed = names.file_of(keys[start - 1]) if start < len(keys) else ("", "")
        while closed and start < len(keys) and keys[start].startswith(f"{closed}/"):
            start += 1
    return pages


# -------------------------------------------------------------------------------------- tables

Rows = dict[str, Callable[[], Figure]]


def programs(at: Services, *flags: str, **more: Any) -> Rows:
    """Return a row for this program, and those of --also, with these flags."""
    rows: Rows = {}
    for name, path in PROGRAMS.items():
        rows[" ".join((name, *flags))] = partial(run_program, at, path, *flags, **more)
    return rows


def by_connections(at: Services, *flags: str, **more: Any) -> Rows:
    """Return a row for the default, and one for each fixed number of connections."""
    rows = programs(at, *flags, **more)
    for number in (64, 128, 256, 512):
        rows |= programs(at, f"--max_connections={number}", *flags, **more)
    return rows


def measure_in_turn(rows: Rows, runs: int) -> dict[str, Figure]:
    """Return for each row the quickest of its runs, or one that failed; the rows take turns."""
    figures: dict[str, list[Figure]] = {name: [] for name in rows}
    for _ in range(runs):
        for name, run in rows.items():
            if not figures[name] or figures[name][0].seconds < LONG:
                figures[name].append(run())
    best = {}
    for name, measured in figures.items():
        failed = [figure for figure in measured if figure.fault]
        best[name] = failed[0] if failed else min(measured, key=attrgetter("seconds"))
    return best


def print_table(title: str, rows: Rows, runs: int, floor: float | None = None) -> None:
    """Measure and print; seconds are compared with a floor, else with those of the first row."""
    figures = measure_in_turn(rows, runs)
    first = next(iter(figures.values())).seconds
    print(f"\n{title}\n")
    print(
        f"| | seconds | {'times the floor' if floor else 'times faster'} | processor | first LIST"
        " | requests | refused | connections | peak memory |"
    )
    print(f"| --- |{' ---: |' * 8}")
    for name, took in figures.items():
        ratio = took.seconds / floor if floor else first / took.seconds
        print(
            f"| {name} | {took.seconds:.2f} | {ratio:.2f} | {took.processor:.2f}"
            f" | {took.first_list:.2f} | {took.requests:,} | {took.refused:,}"
            f" | {took.connections} | {took.memory} MB |",
        )
    for name, took in figures.items():
        if took.fault:
            print(f"\n{name} FAILED: {took.fault}")
    sys.stdout.flush()


def print_workload(title: str, runs: int, methods: Iterable[str]) -> None:
    """Measure one workload with every method."""
    shape, assets = WORKLOADS[title]
    with services(shape, assets) as at:
        run_program(at, PROGRAM)  # so that the stand-ins have made their pages
        rows: Rows = {name: partial(run_method, at, name) for name in methods}
        rows["s5cmd"] = partial(run_s5cmd, at)
        least = f"{title}, at least {least_requests(shape) * assets:,} requests"
        print_table(least, rows | programs(at), runs)


def print_connections(runs: int) -> None:
    """Measure the default against fixed numbers of connections, on networks of several kinds."""

    def one_core() -> None:
        os.sched_setaffinity(0, {0})

    with services("small", 5_000) as at:
        print_table("connections: 5,000 assets of 20 objects", by_connections(at), runs)
        print_table("connections: on one core", by_connections(at, limit=one_core), runs)
    with services("small", 5_000, "--tls") as at:
        print_table("connections: over HTTPS", by_connections(at), runs)
    with services("small", 5_000, "--tls", latency=0.2) as at:
        print_table("connections: over HTTPS, 200 ms a request", by_connections(at), runs)
    # as 7 Mbit/s with the default timeout, in a sixth of the time
    with services("page", 300, "--line=5e6") as at:
        title = "connections: 300 assets of 1,000 objects over a line of 40 Mbit/s"
        print_table(title, by_connections(at, "--timeout=10"), runs)


def print_open_files(runs: int) -> None:
    """Measure with soft limits on the number of open files."""

    def at_most(number: int) -> None:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))

    with services("small", 2_000) as at:
        for number in (1_024, 256, 128):
            title = f"open files: at most {number:,}, 2,000 assets of 20 objects"
            print_table(title, programs(at, limit=partial(at_most, number)), runs)


def print_slow_down(runs: int) -> None:
    """Measure where S3 refuses what is more than a number of requests a second."""
    for rate, assets in (
        (3_500, 5_000),
        (3_500, 20_000),
        (1_000, 5_000),
        (500, 5_000),
        (200, 5_000),
    ):
        with services("small", assets, f"--rate={rate}") as at:
            title = f"slow down: past {rate:,} requests a second, {assets:,} assets of 20 objects"
            rows = programs(at) | programs(at, "--max_connections=256")
            print_table(title, rows, runs, floor=assets / rate)


def print_start(runs: int) -> None:
    """Measure what passes before the first request to list."""
    path = str(PROGRAM.parent)
    code = f"import gc, os, sys; gc.disable(); sys.path.insert(0, {path!r}); import run_capsule"
    code += "; import aind_data_access_api.document_db; os._exit(0)"
    for title, flags in (("HTTP", ()), ("HTTPS", ("--tls",))):
        with services("small", 10, *flags) as at:
            rows: Rows = {
                "Python alone": partial(measure, at, [sys.executable, "-c", ""]),
                "its imports until then": partial(measure, at, [sys.executable, "-c", code]),
                **programs(at),
                **programs(at, f"--docdb_snapshot={write_snapshot(at)}"),
            }
            print_table(f"start: 10 assets of 20 objects over {title}", rows, runs)


def print_s5cmd(runs: int) -> None:
    """Measure against s5cmd, over HTTP and over HTTPS."""
    for title, flags in (("HTTP", ()), ("HTTPS", ("--tls",))):
        with services("small", 5_000, *flags) as at:
            run_program(at, PROGRAM)  # so that the stand-ins have made their pages
            rows: Rows = {"s5cmd": partial(run_s5cmd, at)}
            print_table(f"s5cmd: 5,000 assets over {title}", rows | programs(at), runs)


def print_records(runs: int) -> None:
    """Measure many records and tasks, from a snapshot and from the gateway, listed or not."""
    for number in (1_000, 10_000, 100_000):
        with services("small", number) as at:
            snapshot = f"--docdb_snapshot={write_snapshot(at)}"
            rows = programs(at, find=False) | programs(at, snapshot, find=False)
            print_table(f"records: {number:,} without an extension", rows, runs)
            rows = programs(at) | programs(at, snapshot)
            print_table(f"records: {number:,} with one file each, listed", rows, runs)


def write_snapshot(at: Services) -> str:
    """Write the records of the stand-ins as a snapshot; return its path."""
    path = at.folder / "snapshot.jsonl"
    lines = (json.dumps(record) + "\n" for record in World(at.shape, at.assets).records)
    path.write_text("".join(lines))
    return str(path)


TABLES = {
    "connections": print_connections,
    "open files": print_open_files,
    "slow down": print_slow_down,
    "start": print_start,
    "s5cmd": print_s5cmd,
    "records": print_records,
}


def draw(counts: list[int], methods: Iterable[str], runs: int) -> None:
    """Measure a growing number of assets; draw seconds against assets."""
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.hashsalt": "benchmark", "svg.fonttype": "none", "font.size": 11})
    seconds: dict[str, list[float]] = {}
    for assets in counts:
        with services("small", assets) as at:
            rows: Rows = {name: partial(run_method, at, name) for name in methods}
            for name, took in measure_in_turn(rows | programs(at), runs).items():
                seconds.setdefault(name, []).append(took.seconds)
                print(f"{assets} assets, {name}: {took.seconds:.2f} s", flush=True)
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for name, values in seconds.items():
        axes.plot(counts, values, marker="o", label=name)
    floor = [assets / THREADS * LATENCY for assets in counts]
    label = f"floor of {THREADS} connections: requests / {THREADS} x latency"
    axes.plot(counts, floor, linestyle=":", color="gray", label=label)
    axes.set(xscale="log", yscale="log", xlabel="assets of 20 objects", ylabel="seconds")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.set_title(f"{LATENCY * 1000:.0f} ms per request, {os.cpu_count()} cores, whole processes")
    axes.legend()
    figure.savefig(FOLDER / "benchmark.svg", metadata={"Date": None})


def main() -> None:
    """Do what the flags say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--method", nargs=3, metavar=("NAME", "SHAPE", "ASSETS"), help=argparse.SUPPRESS
    )
    parser.add_argument("--figure", action="store_true", help="draw benchmark.svg")
    parser.add_argument("--only", default="", help=f"words of a workload, or: {', '.join(TABLES)}")
    parser.add_argument("--without-glob", action="store_true", help="leave out the other methods")
    parser.add_argument(
        "--also", action="append", default=[], help="path of another run_capsule.py"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each row, where they are short")
    args = parser.parse_args()
    if args.method:
        name, shape, assets = args.method
        locations = [f"s3://{BUCKET}/{asset_name(n)}" for n in range(int(assets))]
        METHODS[name](locations, EXTENSIONS[shape])
        return
    PROGRAMS.update({path: Path(path).absolute() for path in args.also})
    methods = [] if args.without_glob else list(METHODS)
    if args.figure:
        draw([10, 50, 100, 500, 1_000, 5_000], methods, args.runs)
        return
    print(f"{os.cpu_count()} cores, {LATENCY * 1000:.0f} ms a request where nothing else is said")
    for title in WORKLOADS:
        if args.only in title:
            print_workload(title, args.runs, methods)
    for title, print_tables in TABLES.items():
        if args.only in title:
            print_tables(args.runs)


if __name__ == "__main__":
    main()
