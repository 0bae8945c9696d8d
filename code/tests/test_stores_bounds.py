"""What a store answers has bounds: memory, connections, links, words."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from chosen import write_snapshot
from conftest import NIGHT, Run
from dispatch.stores.s3 import read_page
from standins import BUCKET, S3, DocDB, Request, record
from surroundings import FLAGS


def test_answers_that_are_cut_leave_no_memory_behind(run: Run, docdb: DocDB, s3: S3) -> None:
    number = 300 if NIGHT else 20
    docdb.put(*(record(f"{n:03}") for n in range(number)))
    s3.put(BUCKET, [f"{n:03}/{k}.nwb" for n in range(number) for k in range(5)])
    size = 30_000_000 // number
    times: dict[str, int] = {}

    def cut(request: Request) -> Any:
        prefix = request.query.get("prefix", "")
        times[prefix] = times.get(prefix, 0) + 1
        if times[prefix] > 2:
            return None

        def answer(_: Any, start_response: Any) -> Any:
            start_response("200 OK", [("Content-Length", str(2 * size))])
            return [b"<ListBucketResult>" + b" " * size]

        return answer

    flags = (*FLAGS, "--split_files=0", "--max_connections=4")
    plain = run(*flags)
    s3.fault = cut
    result = run(*flags, "--overwrite=1")
    assert result.status == 0, result.log
    assert sum(times.values()) >= 3 * number
    assert result.megabytes < plain.megabytes + 20  # of 60 MB that were cut


AN_OBJECT = (
    b"<Contents><Key>{}</Key><LastModified>x</LastModified><ETag>e</ETag><Size>1</Size>"
    b"<StorageClass>STANDARD</StorageClass></Contents>"
)


A_PAGE = (
    b'<?xml version="1.0"?><ListBucketResult>{prolog}<Name>n</Name>{before}<IsTruncated>false'
    b"</IsTruncated>{objects}{behind}</ListBucketResult>"
)


HIDDEN = ["<!--{}-->", "<?x {}?>", "<Name>{}</Name>", "<Owner><A>{}</A></Owner>"]


@pytest.mark.parametrize("place", ["prolog", "before", "objects", "behind"])
@pytest.mark.parametrize("hidden", HIDDEN)
def test_only_objects_right_in_a_page_count(place: str, hidden: str) -> None:
    found, other = (AN_OBJECT.replace(b"{}", name) for name in (b"a/1", b"a/2"))
    page = A_PAGE.replace(b"{objects}", found + b"{objects}")
    page = page.replace(f"{{{place}}}".encode(), hidden.encode().replace(b"{}", other))
    page = re.sub(rb"\{\w+\}", b"", page)
    assert read_page(page, "", 0, "a/").sizes == {"a/1": 1}
    cdata = page.replace(b"<Name>n</Name>", b"<Name><![CDATA[" + other + b"]]></Name>")
    assert read_page(cdata, "", 0, "a/").sizes == {"a/1": 1}


@pytest.mark.parametrize("outside", [False, True])
def test_folders_full_of_links_to_each_other_are_walked_once(
    outside: bool, run: Run, tmp_path: Path
) -> None:
    top = tmp_path / "top"
    folders = [(tmp_path / "out" if outside else top) / f"d{n}" for n in range(9)]
    for folder in (top, *folders):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        (folder / f"{folder.name}.nwb").touch()
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other)
    expected = [f"/d{n}/d{n}.nwb" for n in range(9)]
    if outside:
        (top / "first").symlink_to(folders[3])
        expected = [f"/first/to_d{n}/d{n}.nwb" for n in range(9) if n != 3]
        expected.insert(0, "/first/d3.nwb")
    flag = write_snapshot(tmp_path / "data", [record("a", location=top.as_uri())])
    result = run(*FLAGS, flag)
    assert result.status == 0, result.log
    found = [url for task in result.tasks() for url in task["file_location"]]
    assert sorted(found) == [f"{top.as_uri()}{path}" for path in expected]


def test_more_connections_than_can_be_used_are_asked_for(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x.nwb"])
    begun = time.monotonic()
    result = run(*FLAGS, "--max_connections=999999999")
    assert result.status == 0, result.log
    assert time.monotonic() - begun < 5
