"""The names that every record answers to, in every shape that records are known to hold them in.

The database holds descriptions of several generations of aind-data-schema side by side, whichever
version it is asked in.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dispatch.records.names import Day, Name, Session, Time

# Modalities by their abbreviations (aind-data-schema-models, modalities.py), with what older
# records call them. 1: aind-metadata-upgrader 0.17, v1v2_utils.py; 2: its first generation,
# data_description_upgrade.py, which compares in small letters; 3: as platforms.py writes these;
# 4: aind-data-schema 0.5, data_description.py. Capitals do not matter.
MODALITIES: dict[str, tuple[str, ...]] = {
    "BARseq": (),
    "behavior": (),
    "behavior-videos": (),
    "brightfield": (),
    "confocal": (),
    "EMG": (),
    "EM": (),
    "ecephys": (),
    "fib": ("FIP", "HSFP", "test-FIP-opto"),  # 1 and 2, 1 and 2, 2 and 3
    "fMOST": (),
    "icephys": (),
    "ISI": (),
    "MRI": ("MRI-14T", "MRI-7T"),  # 2 and 3
    "MAPseq": (),
    "merfish": (),  # MERFISH: 3
    "one-photon": (),
    "pophys": ("ophys", "single-plane-ophys", "multiplane-ophys"),  # 1, 2, 2
    "slap2": ("slap",),  # 1
    "SPIM": ("SmartSPIM", "exaSPIM", "mesoSPIM", "diSPIM"),  # 1, 1 and 4, 2 to 4, 2 and 3
    "STPT": (),
    "scRNAseq": (),
}
LEVELS: dict[str, tuple[str, ...]] = {  # upgrader, v1v2.py of data_description: what has raw in it
    "raw": ("raw data", "raw level"),
    "derived": ("derived data", "derived level"),
    "simulated": (),
}

# Where they lie. In the comments: aind-data-schema by its version, such as 1.4; below 1, there is
# one session.py, or one for each kind, which the database has as `session`, too.
PROJECT_NAME = Name(
    "project_name",
    "project",
    ("data_description.project_name",),  # 0.5 to 2.9
)
SUBJECT_ID = Name(
    "subject_id",
    "subject",
    (
        "subject.subject_id",  # 0.5 to 2.9
        "data_description.subject_id",  # 0.5 to 2.9; where there is no subject.json, this alone
        "session.subject_id",  # 0.5 to 1.4, up to 0.15 a number
        "acquisition.subject_id",  # 0.5 to 2.9, in 0.5 a number
        "procedures.subject_id",  # 0.5 to 2.9
    ),
    numeric=("session.subject_id", "acquisition.subject_id"),
)
MODALITY = Name(
    "modality",
    "modality",
    (
        "data_description.modality.abbreviation",  # objects of 0.15 to 1.4
        "data_description.modalities.abbreviation",  # 2
        "data_description.modality",  # one string in 0.5, strings that the upgrader knows
        "data_description.modalities",
    ),
    MODALITIES,
    holds_list=True,
    may_be_written_out=True,
    takes_all=True,
)
DATA_LEVEL = Name("data_level", "data level", ("data_description.data_level",), LEVELS)
TIMES = (
    "session.session_start_time",  # 0.5 to 1.4
    "acquisition.acquisition_start_time",  # 2
    "acquisition.session_start_time",  # 0.5 to 1.4, of imaging
)
SESSION_START = Time("session_start", "session date", TIMES)
SESSION_DAY = Day("session_day", "session date", TIMES)
SESSION_NAME = Session(
    "session_name",
    "session",
    (
        "name",
        "data_description.input_data_name",  # 0.5 to 1.4, of derived assets
        "data_description.source_data",  # 2, of derived assets
    ),
    is_for_filters=False,
)
INSTRUMENT_ID = Name(
    "instrument_id",
    "instrument",
    (
        "session.rig_id",  # 0.5 to 1.4
        "acquisition.instrument_id",  # 0.5 to 2.9
        "rig.rig_id",  # 0.15 to 1.4
        "rig.instrument_id",  # upgrader, v1v2.py of rig
        "instrument.instrument_id",  # 0.5 to 2.9
    ),
)
EXPERIMENTER = Name(
    "experimenter",
    "experimenter",
    (
        "session.experimenter_full_name",  # 0.5 to 1.4, one string or a list
        "acquisition.experimenter_full_name",  # 0.5 to 1.4, of imaging
        "acquisition.experimenters",  # 2
        "acquisition.experimenters.name",  # upgrader, v2v2.py of acquisition: objects
    ),
    holds_list=True,
)
TAGS = Name(
    "tags",
    "tag",
    ("data_description.tags",),  # 2
    holds_list=True,
    takes_all=True,
)
# Read by flags alone: in a filter it is the plain field, as MongoDB has it.
CREATED = Name("created", "time of creation", ("created", "_created"), is_for_filters=False)

NAMES = {
    name.name: name
    for name in (
        *(PROJECT_NAME, SUBJECT_ID, MODALITY, DATA_LEVEL, SESSION_START, SESSION_DAY),
        *(SESSION_NAME, INSTRUMENT_ID, EXPERIMENTER, TAGS, CREATED),
    )
}
Vocabulary = Mapping[str, Name]


def vocabulary_of(plain: Collection[str]) -> Vocabulary:
    """Return the names as a source of records has them, some of which are plain fields there.

    None is one of the live database.
    """
    names = dict(NAMES)
    for name in names.values():
        columns = [name.name] if name.name in plain else []
        if name is SESSION_DAY and SESSION_START.name in plain:
            columns.append(SESSION_START.name)
        if columns and name is not CREATED:
            names[name.name] = name.with_columns(columns)
    return names


def name_at(path: str) -> Name | None:
    """Return the name that stands for what lies at a path, None if that is nothing of the kind."""
    for name in NAMES.values():
        if path in name.paths and name.is_for_filters:
            return name
    return None
