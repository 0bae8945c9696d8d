"""Assets for the tests of flags and input files."""

from __future__ import annotations

import pytest

import run_capsule
from dispatch.terminal.messages import BadInput
from standins import BUCKET, S3, DocDB, record


def refusal(*words: str) -> str:
    """Return what is said of flags that are bad input."""
    with pytest.raises(BadInput) as refused:
        run_capsule.parse_settings(words)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def world(docdb: DocDB, s3: S3) -> None:
    """Four assets of two subjects, with two files each."""
    docdb.put(
        *(record(name, subject={"subject_id": str(n % 2)}) for n, name in enumerate("abcd")),
        record("lacks the subject"),
    )
    s3.put(BUCKET, [f"{name}/{n}.nwb" for name in "abcd" for n in range(2)])
