"""Measure this program against the ways in which assets have been listed so far.

`python code/benchmarks/benchmark.py` runs every workload with every method, each as a process of
its own against the same stand-ins (servers.py), and prints a table for each. With `--figure` it
measures a growing number of assets instead, and draws benchmark.svg. Absolute seconds belong to the
machine that they were measured on; what can be quoted are ratios of one run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
PROGRAM = FOLDER.parent / "run_capsule.py"
sys.path[:0] = [str(FOLDER), str(FOLDER.parent)]

from servers import BUCKET, EXTENSIONS, SHAPES, World, asset_name  # noqa: E402

import run_capsule  # noqa: E402

LATENCY = 0.05
THREADS = 64
WORKLOADS = {
    "500 assets of 120 objects": ("session", 500),
    "4 assets of ten Zarr stores with 10,000 chunks": ("zarr", 4),
    "4 assets of 10,000 folders with 5 files": ("tiny-folders", 4),
    "1 asset of 200 folders with 1,000 images": ("images", 1),
    "5,000 assets of 20 objects": ("small", 5_000),
}


# ----------------------------------------------------------------------- one method, in a process


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

    def find(location: str) -> int:
        bucket, _, prefix = location.removeprefix("s3://").partition("/")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        keys = (item["Key"] for page in pages for item in page.get("Contents", ()))
        files = (run_capsule.file_of(key[len(prefix) + 1 :], extension)[0] for key in keys)
        return len({file for file in files if file})

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(pool.map(find, locations))


def with_listing_alone(locations: list[str], extension: str) -> int:
    """List as this program does, without a database and without output."""
    settings = run_capsule.parse_settings(["--query={}", f"--file_extension={extension}"])
    listing = run_capsule.Listing(settings, run_capsule.Progress())
    listing.add(run_capsule.Asset(location, "", location, "", {}) for location in locations)
    files = listing.files()
    listing.close()
    return sum(map(len, files.values()))


METHODS = {
    "one s3fs.glob after the other": with_glob,
    f"s3fs.glob in {THREADS} threads": with_glob_in_threads,
    f"boto3 paginator in {THREADS} threads": with_boto3_in_threads,
    "this program, listing alone": with_listing_alone,
}
WHOLE = "this program, whole process"


# ------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Figure:
    """What one method took for one workload, start-up included."""

    seconds: float
    requests: int
    memory: int  # MB, at the peak


@contextmanager
def services(shape: str, assets: int) -> Iterator[dict[str, str]]:
    """Start the stand-ins; yield the environment that leads a program to them."""
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, FOLDER / "servers.py", shape, str(assets), str(LATENCY), folder],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            s3, docdb, ca_file = json.loads(server.stdout.readline() if server.stdout else "")
            yield {
                "PATH": os.environ["PATH"],
                "HOME": folder,
                "DOCDB_HOST": docdb,
                "REQUESTS_CA_BUNDLE": ca_file,
                "AWS_ENDPOINT_URL": s3,
                "AWS_ACCESS_KEY_ID": "example",
                "AWS_SECRET_ACCESS_KEY": "example",
                "AWS_DEFAULT_REGION": "us-west-2",
                "AWS_EC2_METADATA_DISABLED": "true",
                "TMPDIR": folder,
            }
        finally:
            server.kill()
            server.wait()


def measure(command: list[Any], environment: dict[str, str]) -> Figure:
    """Run a command to its end; return what it took."""
    stats = environment["AWS_ENDPOINT_URL"] + "/stats"
    urllib.request.urlopen(stats).read()
    started = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    log = process.stderr.read() if process.stderr else b""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"{command} failed:\n{log.decode()}")
    requests = json.load(urllib.request.urlopen(stats))
    return Figure(seconds, sum(requests.values()), usage.ru_maxrss // 1024)


def run_method(method: str, shape: str, assets: int, environment: dict[str, str]) -> Figure:
    """Measure one method as a process."""
    if method != WHOLE:
        command: list[Any] = [sys.executable, __file__, "--method", method, shape, str(assets)]
        return measure(command, environment)
    with tempfile.TemporaryDirectory(dir=environment["TMPDIR"]) as output:
        flags = ["--query={}", f"--file_extension={EXTENSIONS[shape]}"]
        command = [sys.executable, PROGRAM, *flags, f"--output_directory={output}"]
        return measure(command, environment)


def least_requests(shape: str) -> int:
    """Return the pages that an asset of this shape takes at least, closed folders jumped over."""
    keys, extension = sorted(SHAPES[shape]()), EXTENSIONS[shape]
    pages = start = 0
    while start < len(keys):
        pages += 1
        start += 1_000  # keys, what S3 answers with at most
        _, closed = (
            run_capsule.file_of(keys[start - 1], extension) if start < len(keys) else ("", "")
        )
        while closed and start < len(keys) and keys[start].startswith(f"{closed}/"):
            start += 1
    return pages


def print_table(title: str, shape: str, assets: int, methods: list[str]) -> None:
    """Measure one workload with every method, and print what it took."""
    floor = least_requests(shape) * assets / THREADS * LATENCY
    print(f"\n{title}: at least {least_requests(shape) * assets:,} requests, {floor:.2f} s\n")
    print("| method | seconds | ratio to the floor | requests | peak memory | times faster |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with services(shape, assets) as environment:
        run_method("this program, listing alone", shape, assets, environment)  # makes the pages
        glob = None
        for method in methods:
            figure = run_method(method, shape, assets, environment)
            glob = glob or figure.seconds
            print(
                f"| {method} | {figure.seconds:.2f} | {figure.seconds / floor:.1f}"
                f" | {figure.requests:,} | {figure.memory} MB | {glob / figure.seconds:.1f} |",
                flush=True,
            )


def print_records_table() -> None:
    """Measure dispatches of assets without files, from a snapshot and from the gateway."""
    print("\nrecords without an extension, whole process\n")
    print("| records | source | seconds | DocDB requests | peak memory |")
    print("| ---: | --- | ---: | ---: | ---: |")
    for number in (1_000, 10_000, 100_000):
        with services("small", number) as environment:
            folder = Path(environment["TMPDIR"])
            records = World("small", number).records
            lines = (json.dumps(record) + "\n" for record in records)
            (folder / "snapshot.jsonl").write_text("".join(lines))
            snapshot = ["--docdb_snapshot", folder / "snapshot.jsonl"]
            for source, flags in (("snapshot", snapshot), ("gateway", [])):
                output = f"--output_directory={folder / source}"
                command = [sys.executable, PROGRAM, "--query={}", output, *flags]
                took = measure(command, environment)
                print(
                    f"| {number:,} | {source} | {took.seconds:.1f} | {took.requests}"
                    f" | {took.memory} MB |",
                    flush=True,
                )


def draw(counts: list[int], methods: list[str]) -> None:
    """Measure a growing number of assets; draw seconds against assets."""
    import matplotlib as mpl
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.hashsalt": "benchmark", "svg.fonttype": "none", "font.size": 11})
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for assets in counts:
        with services("small", assets) as environment:
            run_method("this program, listing alone", "small", assets, environment)
            for method in methods:
                took = run_method(method, "small", assets, environment)
                seconds[method].append(took.seconds)
                print(f"{assets} assets, {method}: {took.seconds:.2f} s", flush=True)
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    for method, values in seconds.items():
        axes.plot(counts, values, marker="o", label=method)
    floor = [assets / THREADS * LATENCY for assets in counts]
    axes.plot(counts, floor, linestyle=":", color="gray", label="floor: requests / 64 x latency")
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
    parser.add_argument("--only", help="words of the workload to run, or: records")
    parser.add_argument("--without-glob", action="store_true", help="leave out the slow methods")
    args = parser.parse_args()
    if args.method:
        name, shape, assets = args.method
        locations = [f"s3://{BUCKET}/{asset_name(n)}" for n in range(int(assets))]
        METHODS[name](locations, EXTENSIONS[shape])
        return
    methods = [*METHODS, WHOLE][3 if args.without_glob else 0 :]
    if args.figure:
        draw([10, 50, 100, 500, 1_000, 5_000], methods)
        return
    print(f"{os.cpu_count()} cores, {LATENCY * 1000:.0f} ms per request, {THREADS} connections")
    for title, (shape, assets) in WORKLOADS.items():
        if (args.only or "") in title:
            print_table(title, shape, assets, methods)
    if (args.only or "records") == "records":
        print_records_table()


if __name__ == "__main__":
    main()
