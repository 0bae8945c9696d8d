"""The flags: the table that the command line, the app panel and the documents are made from.

The story alone imports it; rooms get what they need as plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dispatch.assets.asset_list import AssetList
from dispatch.assets.sessions import HAS, LACKS
from dispatch.given.flags import (
    flag,
    names_of,
    names_under,
    to_date,
    to_field,
    to_folders,
    to_input_folder,
    to_level,
    to_measure,
    to_number,
    to_path,
    to_positive,
    to_switch,
    to_version,
)
from dispatch.given.lists import (
    to_assets,
    to_bytes,
    to_fields,
    to_ids_or_files,
    to_names,
    to_patterns,
    to_string,
    to_suffixes,
)
from dispatch.given.values import Record
from dispatch.records.schema import DATA_LEVEL, MODALITY, PROJECT_NAME, SESSION_DAY, SUBJECT_ID
from dispatch.tasks.analysis_code import PIPELINE, not_set
from dispatch.terminal.messages import BadInput

ROOT = Path(__file__).resolve().parents[2]  # in Code Ocean: /, so that this is /data, /results


# fmt: off
@dataclass(frozen=True)
class Settings:
    """What one run is asked to do; the command line, app panel and README are made from it."""

    query: str | None = flag(str, "FILTER", """Which records: a DocDB filter as a JSON object or
        Python dict, or the path of a JSON file (in the working folder, else in the input folder or
        one folder down).""", heading="Choose the assets", also="--docdb_query", kind="query")
    project_name: str | None = flag(to_string, "NAME", """Only assets of this project. This flag and
        the next five are combined by AND, with each other and with the query.""", kind="query",
        either="project_name")
    subject_id: tuple[str, ...] = flag(to_names, "ID,ID", """Only assets of these subjects,
        separated by commas or blanks.""", (), kind="query")
    modality: tuple[str, ...] = flag(to_names, "NAME,NAME", """Only assets with any of these
        modalities, by their abbreviations, such as ecephys.""", (), kind="query")
    data_level: str | None = flag(to_level, "raw|derived", "Only raw, or only derived assets.",
        kind="query")
    session_from: str | None = flag(to_date, "DATE", """Only sessions of this day or later:
        2025-03-01, 2025-03 or 2025.""", kind="query")
    session_to: str | None = flag(to_date, "DATE", "Only sessions up to the end of this day, month "
        "or year.", kind="query")
    use_data_asset_csv: bool = flag(to_switch, "0|1", """1: the assets are those that
        data_asset_input.csv (or .xlsx) in the input folder lists, each row by the Code Ocean id in
        a column asset_id, else by the name in a column asset_name; --query and the flags above are
        not used then.""", False, kind="list")
    asset: tuple[str, ...] = flag(to_assets, "ASSET,ASSET", """Only these assets, in this order:
        Code Ocean ids, names or S3 locations, or a file of them (.txt, or .csv, .tsv or .xlsx with
        a column asset_id or asset_name); --query and the flags above are not used then.""", (),
        kind="list", also="--asset_id --asset_name")
    session_lacks: str | None = flag(str, "FILTER", """Leave out assets of whose session another
        asset matches this filter, such as one that has been made already.""")
    session_has: str | None = flag(str, "FILTER", """Only assets of whose session another asset
        matches this filter.""", expert=True)
    docdb_version: str = flag(to_version, "v1|v2", """Version of the metadata database. Blank:
        $DOCDB_VERSION, else v1.""", expert=True)
    records: Path | None = flag(str, "FILE", """A file of records to ask instead of the live
        database: JSON, JSON lines, a table (.csv, .tsv, .xlsx; a row is a record, a column with
        dots is nested, one called location is enough), or one location a line. Looked for like a
        query file; without anything that chooses, all of it.""", also="--docdb_snapshot")
    filter_latest: str | None = flag(to_field, "FIELD", """Of the assets that agree in all fields of
        --filter_by, only the one with the greatest value here, such as created.""")
    filter_by: tuple[str, ...] = flag(to_fields, "FIELD,FIELD", """The fields for --filter_latest,
        such as session_name.""", ())
    group_by: tuple[str, ...] = flag(to_fields, "FIELD,FIELD", """One task for all assets that agree
        in these fields, such as subject_id,session_day.""", (), heading="Group the assets")
    unwind_list_fields: tuple[str, ...] = flag(to_fields, "FIELD,FIELD", """An asset whose value
        here is a list counts once for each element, in --group_by, --filter_by and --filter_latest,
        such as modality.""", (), expert=True)
    drop_null_groups: bool = flag(to_switch, "0|1", """1: skip assets that lack a field to group or
        filter by. 0: keep them as a group of their own.""", True, expert=True)
    file_extension: tuple[str, ...] = flag(to_suffixes, "SUFFIX,SUFFIX", """How the names of the
        files to find end, such as nwb (for .nwb), .nwb.zarr or _probe.json, any one of several; a
        folder with such a name is one file. Blank: none, a task names the asset alone.""", (),
        heading="Find the files")
    sidecar: tuple[str, ...] = flag(to_suffixes, "SUFFIX,SUFFIX", """How the names of the files end
        that belong to each file found: beside it, called the same but for this ending, such as
        .ap.meta for --file_extension .ap.bin. They are in its task; a file without them is
        skipped.""", (), expert=True)
    include: tuple[str, ...] = flag(to_patterns, "PATTERN,PATTERN", """Only files whose path below
        the asset matches any of these, in which * stands for any letters, slashes too; commas
        outside of brackets separate, blanks do not.""", ())
    exclude: tuple[str, ...] = flag(to_patterns, "PATTERN,PATTERN", """No files whose path below the
        asset matches any of these.""", ())
    min_size: int = flag(to_bytes, "SIZE", """Only files of this size or larger, such as 10MB,
        1.5GiB or a number of bytes; of a folder that is a file, all that lies in it counts.""", 0,
        expert=True)
    split_files: bool = flag(to_switch, "0|1", """1: one task per file. 0: one task per asset, with
        all of its files. Without a file extension, or for grouped assets, it has no effect.""",
        True)
    max_connections: int = flag(to_number, "N", """Maximum number of requests to S3 at the same
        time. 0: as many as help.""", 0, expert=True)
    no_sign_request: bool = flag(to_switch, "0|1", """1: ask S3 without credentials, as anyone may
        ask public buckets.""", False, expert=True)
    keys_in_order: bool | None = flag(to_switch, "0|1", """1: the server at AWS_ENDPOINT_URL lists
        keys in the order of S3, a-b/ before a/, so that Zarr stores can be passed over and large
        assets split. 0: it does not. Blank: as far as the server is known.""", expert=True)
    timeout: int = flag(to_positive, "SECONDS", """How long one attempt at a request to DocDB or S3
        may take; then it is retried, a few times.""", 60, expert=True, kind="any")
    analysis_code: str | Path = flag(str, "auto|none|FILE", """What every task says of the code that
        will run it. auto: in a pipeline of Code Ocean, the capsule that --analysis_capsule names,
        with the fixed parameters; elsewhere nothing. none: nothing. FILE: the code in this file, a
        Code of aind-data-schema as JSON; looked for like a query file.""", "auto",
        heading="Say what will run", expert=True)
    analysis_capsule: str = flag(to_string, "NAME", """The capsule of the running pipeline that will
        run the tasks: its id, or a part of its name in the pipeline.""", "wrapper", expert=True)
    skip_processed: bool = flag(to_switch, "0|1", """1: leave out the tasks whose result is in the
        results store already. Needs the code of the analysis, $DOCDB_HOST, $DOCDB_DATABASE and
        $DOCDB_COLLECTION.""", False)
    from_plan: Path | None = flag(str, "FILE", """Dispatch exactly the tasks of this plan, without
        asking any service: a dispatch_plan.jsonl, or an output folder that holds one.""",
        heading="Go on from a plan", expert=True)
    task_id: tuple[str, ...] = flag(to_ids_or_files, "ID,ID", """Of the tasks of --from_plan, only
        these: ids, or a file with one id a line or in a column task_id.""", (), expert=True)
    compare_with: Path | None = flag(str, "FILE", """Tell which tasks are new, gone and the same
        against those of a plan, or of the worker folders of an earlier dispatch.""", expert=True)
    skip_dispatched: tuple[str, ...] = flag(to_folders, "FOLDER,FOLDER", """Leave out the tasks
        that earlier dispatches have: in these output folders, folders of such, or plans; in a name,
        * stands for any letters.""", (), expert=True)
    max_tasks: int = flag(to_number, "N", "Only the first N tasks, to try an analysis. 0: all.", 0,
        heading="Share out the work", also="--max_number_of_tasks_dispatched", kind="limit")
    max_jobs: int | None = flag(to_positive, "N", """Maximum number of worker folders. Blank: as
        many as --tasks_per_job takes; without that too, one for each task that says its code, else
        50.""", also="--num_parallel_workers")
    tasks_per_job: int | None = flag(to_positive, "N", """N tasks in each worker folder; with
        --max_jobs at least N, and with --balance_by size N on the average.""", expert=True)
    balance_by: str = flag(to_measure, "count|size", """What is shared out evenly. count: the tasks,
        in their order. size: the bytes of their files; needs --file_extension.""", "count",
        expert=True)
    dry_run: bool = flag(to_switch, "0|1", """1: dispatch nothing, but show what would be: the first
        tasks on the terminal, all of them in dispatch_plan.csv, .html and .jsonl in the output
        folder.""", False, heading="Folders and safety")
    input_directory: Path = flag(to_input_folder, "FOLDER", """Where the files of queries, records,
        lists and parameters are looked for.""", ROOT / "data", expert=True)
    output_directory: Path = flag(to_path, "FOLDER", "Where the worker folders are written.",
        ROOT / "results", expert=True)
    overwrite: bool = flag(to_switch, "0|1", "1: replace the worker folders of an earlier run.",
        False)
    strict: bool = flag(to_switch, "0|1", """1: fail when an asset or id would be skipped, instead
        of going on without it.""", False)

    # What is no flag itself:
    own_filter: Record = field(default_factory=dict)  # of --query
    whole_filter: Record | None = None  # of all flags that choose records; None: a list does
    asked_filter: Record | None = None  # the same without names, as MongoDB is asked
    session_filters: dict[str, Record] = field(default_factory=dict)  # of --session_has, _lacks
    asset_list: AssetList | None = None
    argv: tuple[str, ...] = ()  # the flags as they were given
    # fmt: on

    @property
    def choices(self) -> list[Record]:
        """What the flags of the form ask for, each as a condition for a name."""
        choices: list[Record] = []
        if self.project_name:
            choices.append({PROJECT_NAME.name: self.project_name})
        for name, values in ((SUBJECT_ID, self.subject_id), (MODALITY, self.modality)):
            if values:
                wanted = values[0] if len(values) == 1 else {"$in": list(values)}
                choices.append({name.name: wanted})
        if self.data_level:
            choices.append({DATA_LEVEL.name: self.data_level})
        days: Record = {}
        if self.session_from:
            days["$gte"] = self.session_from
        if self.session_to:
            days["$lte"] = self.session_to
        if days:
            choices.append({SESSION_DAY.name: days})
        return choices

    @property
    def session_flags(self) -> dict[str, str]:
        """The filters of the flags that ask for other assets of a session, as they were given."""
        flags = {LACKS: self.session_lacks, HAS: self.session_has}
        return {flag: value for flag, value in flags.items() if value}

    @property
    def fields_in_use(self) -> tuple[str, ...]:
        """The fields of a record that the flags for filtering and grouping read."""
        latest = (self.filter_latest,) if self.filter_latest else ()
        return (*latest, *self.filter_by, *self.group_by)

    @property
    def is_dealt_anew(self) -> bool:
        """Whether the tasks of a plan are not to stay with the workers that it gave them."""
        by_size = self.balance_by == "size"
        return bool(self.max_tasks or self.max_jobs or self.tasks_per_job or by_size)

    @property
    def no_code(self) -> str | None:
        """Why the tasks do not say which code will run them; None if they do."""
        if self.from_plan:
            return None  # the plan knows
        if self.analysis_code == "auto":
            return not_set(PIPELINE)
        return "--analysis_code none" if self.analysis_code == "none" else None


QUERY_FLAGS = names_of(fields(Settings), "query")
LIST_FLAGS = names_of(fields(Settings), "list")
TASKS_FLAGS = names_under(  # those that a plan has settled
    fields(Settings), ("Choose the assets", "Group the assets", "Find the files"), but="any"
)
LIMITING_FLAGS = names_of(fields(Settings), "limit", aliases=True)
CHOOSING_FLAGS = (
    *names_of(fields(Settings), "query", aliases=True),
    *names_of(fields(Settings), "list", aliases=True),
)


def refuse_settled(values: Mapping[str, Any], words: Sequence[str]) -> None:
    """Raise BadInput for flags that choose, group or find, which a plan has settled.

    A default is none: an app panel passes every field. They are told as `words` spell them.
    """
    spelt = {word.partition("=")[0] for word in words}
    settled: list[str] = []
    for setting in fields(Settings):
        if setting.name in TASKS_FLAGS and values[setting.name] != setting.default:
            names = [f"--{setting.name}", *setting.metadata.get("also", "").split()]
            settled += spelt.intersection(names)
    if settled:
        what = "--from_plan dispatches the tasks of a plan as they are"
        raise BadInput(f"{what}: leave out {', '.join(settled)}, or make another plan")


EPILOG = """\
examples:
  every .nwb file of a subject's assets, one task per file, for at most 50 workers:
    run_capsule.py --query '{"subject_id": "774659"}' --file_extension .nwb

  the raw sessions of a project that have no sorted asset yet:
    run_capsule.py --data_level raw --project_name "Dynamic Routing" \\
      --session_lacks '{"name": {"$regex": "_sorted_"}}'

  the latest derived asset of each session of a project, one task per subject, only looked at:
    run_capsule.py --project_name "Dynamic Routing" --data_level derived --group_by subject_id \\
      --filter_latest created --filter_by session_name --dry_run 1

  the assets listed in data_asset_input.csv, shared out among 20 workers by the size of their files:
    run_capsule.py --use_data_asset_csv 1 --file_extension .zarr --max_jobs 20 --balance_by size

A blank value (--flag=) means the default. 0 and 1 may be written false and true, or no and yes; a
list is a,b or ["a", "b"], and joined where it is given twice. Environment: AWS_* as for every AWS
tool, DOCDB_HOST, DOCDB_VERSION, LOG_LEVEL; for --skip_processed DOCDB_DATABASE, DOCDB_COLLECTION;
in a pipeline of Code Ocean CO_PIPELINE_ID, CO_COMPUTATION_ID, CODEOCEAN_API_TOKEN,
CODEOCEAN_DOMAIN."""
