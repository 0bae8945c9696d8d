"""S3 over its protocol: regions, credentials, proxies, and how pages are worded."""

from __future__ import annotations

from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run, fails
from dispatch.stores.s3 import read_page
from standins import S3, DocDB, record


def test_pages_of_records_come_over_one_connection(run: Run, docdb: DocDB) -> None:
    docdb.put(*(record(f"{n:05}") for n in range(1_100)))
    result = run("--query={}", "--max_jobs=1")
    assert "1,100 tasks" in result.error
    assert len(docdb.requests) == 3  # the last one for records whose ids are no strings
    assert docdb.connections == 1


def test_each_bucket_is_asked_in_its_own_region(run: Run, docdb: DocDB, s3: S3) -> None:
    for bucket, region in (("west-bucket", "us-west-2"), ("europe-bucket", "eu-central-1")):
        s3.put(bucket, ["x/a.nwb", "y/tab\t.nwb"], region)
        docdb.put(record("x", bucket, _id=bucket + "x"), record("y", bucket, _id=bucket + "y"))
    result = run(
        "--query", "{}", "--file_extension", ".nwb", env={"AWS_DEFAULT_REGION": "us-east-1"}
    )
    assert result.status == 0, result.log
    assert {task["file_location"][0] for task in result.tasks()} == {
        "s3://west-bucket/x/a.nwb",
        "s3://west-bucket/y/tab\t.nwb",
        "s3://europe-bucket/x/a.nwb",
        "s3://europe-bucket/y/tab\t.nwb",
    }
    assert all(request.signature for request in s3.listings())


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_PROFILE", "nobody", "nobody"),
        ("AWS_ENDPOINT_URL", "nonsense", ""),
        ("AWS_ENDPOINT_URL", "http://me:secret@no host", ""),
    ],
)
def test_a_setting_that_boto3_refuses_is_told(
    name: str, value: str, words: str, run: Run, docdb: DocDB
) -> None:
    docdb.put(record("x"))
    result = run("--query={}", "--file_extension=nwb", env={name: value})
    fails(result, "error: AWS: ", words)
    assert "secret" not in result.log


OBJECTS = st.tuples(
    st.text("ab/.é+% &<", min_size=1, max_size=6),
    st.integers(0, 2**40),
    st.sampled_from(["aws", "aws", "aws", "checksum", "owner", "size first", "spaced", "no size"]),
)


def object_in_xml(key: str, size: int, style: str) -> str:
    """Return an object as one server or another words it."""
    name = f"<Key>{escape(key)}</Key>"
    tag = "<LastModified>2025-03-04T09:12:33.000Z</LastModified><ETag>&quot;a&quot;</ETag>"
    number, storage = f"<Size>{size}</Size>", "<StorageClass>STANDARD</StorageClass>"
    checksum = "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>FULL</ChecksumType>"
    owner = "<Owner><ID>1</ID><DisplayName>Key</DisplayName></Owner>"
    parts = {
        "aws": [name, tag, number, storage],
        "checksum": [name, tag, checksum, number, storage],
        "owner": [name, tag, number, owner, storage],
        "size first": [number, name, tag, storage],
        "spaced": ["\n  ", name, "\n  ", tag, number, storage],
        "no size": [name, tag, storage],
    }[style]
    return f"<Contents>{''.join(parts)}</Contents>"


@given(
    st.lists(OBJECTS, max_size=6, unique_by=lambda one: one[0]),
    st.booleans(),
    st.lists(st.text("ab/&", min_size=1, max_size=3), max_size=2),
    st.booleans(),
    st.sampled_from(["", " broken", "&"]),
    st.sampled_from(["", "a", "b"]),
)
def test_a_page_says_the_same_however_it_is_worded(
    objects: list[tuple[str, int, str]],
    in_order: bool,
    folders: list[str],
    quoted: bool,
    odd: str,
    last: str,
) -> None:
    encode = quote_plus if quoted else str
    listed = sorted(objects) if in_order else objects
    shown = "".join(object_in_xml(encode(key), size, style) for key, size, style in listed)
    below = "".join(
        f"<CommonPrefixes><Prefix>{escape(encode(one))}</Prefix></CommonPrefixes>"
        for one in folders
    )
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<IsTruncated>false</IsTruncated>{'<EncodingType>url</EncodingType>' * quoted}"
        f"{shown}{below}{odd}</ListBucketResult>"
    ).encode()
    keys = [key for key, _, _ in listed]
    if "&" in odd or any(style == "no size" for _, _, style in listed):
        with pytest.raises(ValueError, match=r"S3|zip"):
            read_page(body, last)
        return
    page = read_page(body, last)
    assert list(page.sizes.items()) == [(key, size) for key, size, _ in listed]
    assert page.folders == folders
    assert page.token == ""
    are_sorted = keys == sorted(keys) and folders == sorted(folders)
    assert page.in_order == (are_sorted and all(one > last for one in [*keys, *folders]))
