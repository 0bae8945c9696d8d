"""What is skipped: which assets no task will stand for, and how that is told."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Sequence

from dispatch.assets.assets import Asset, Skip
from dispatch.files.listing import Files
from dispatch.terminal.messages import FailedRun, log_first


def skip_without_task(
    assets: list[Asset],
    groups: list[list[Asset]],
    files: Files | None,
    no_files: str,
    named: Collection[str] = (),
) -> list[Skip]:
    """Return a skip for each asset that no task will stand for, such as one with no files.

    Not for those at the locations `named`, all of whose files are skips themselves.
    """
    grouped = set()
    for group in groups:
        grouped |= {asset.record_id for asset in group}
    skips: dict[str, Skip] = {}
    for asset in assets:
        if asset.record_id not in grouped:
            fault = "left out by group_assets"
            skips[asset.record_id] = Skip(fault, asset.label, record=asset.record)
        elif files is not None and not files[asset.location] and asset.location not in named:
            where = f"{asset.name} ({asset.location})"
            skips[asset.record_id] = Skip(no_files, where, record=asset.record)
    return list(skips.values())


def no_files_in_words(extensions: Sequence[str], has_patterns: bool, min_size: int) -> str:
    """Return why an asset has no files, by what was asked for."""
    limits = []
    if has_patterns:
        limits.append("--include and --exclude")
    if min_size:
        limits.append("--min_size")
    left = f" that {' and '.join(limits)} leave" if limits else ""
    return f"no {' or '.join(extensions)} file{left}"


def report_skipped(skips: list[Skip], strict: bool) -> None:
    """Log what is skipped by name; raise FailedRun if nothing may be."""
    by_reason: defaultdict[tuple[int, str], list[str]] = defaultdict(list)
    for skip in skips:
        severity = logging.INFO if skip.asked and not skip.warns else logging.WARNING
        by_reason[severity, skip.reason].append(skip.name)
    for (severity, reason), names in by_reason.items():
        log_first(severity, f"skipped, {reason}", names)
    faults = [skip for skip in skips if not skip.asked]
    if faults and strict:
        first = f"{faults[0].name}: {faults[0].reason}"
        raise FailedRun(f"--strict 1: {len(faults)} would be skipped, first {first}")
