"""S3 over its protocol: regions, the words of pages, the order of servers, and bounds of all."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import NIGHT, Run, fails
from dispatch.stores.places import Place
from dispatch.stores.s3 import read_page
from dispatch.stores.servers import why_no_order
from faults import FLAGS
from standins import BUCKET, S3, DocDB, Request, record


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


# ------------------------------------------------------------------------------------------- orders


def place(url: str, service: str = "s3") -> Place:
    return Place(url, "us-west-2", service)


KNOWN = [
    "AmazonS3", "MinIO", "MinIO/RELEASE.2019-09-05T23-24-38Z", "Ceph Object Gateway (squid)",
    "UploadServer", "Werkzeug/3.1.9 Python/3.11.7, amazon.com",
]  # fmt: skip
UNKNOWN = [
    "", "SeaweedFS 8000GB 4.48", "Cleversafe/3.9.0.115", "VERSITYGW", "nginx", "cloudflare",
    "NotAmazonS3", "AmazonS3-like", "amazons3", "BaseHTTP/0.6 Python/3.11", "xamazon.com",
]  # fmt: skip
OF_AWS = [
    "s3.amazonaws.com", "b.s3.amazonaws.com", "s3.us-west-2.amazonaws.com",
    "b.with.dots.s3.us-gov-west-1.amazonaws.com", "b.s3.dualstack.us-west-2.amazonaws.com",
    "b.s3-fips.dualstack.us-gov-east-1.amazonaws.com", "b.s3-accelerate.amazonaws.com",
    "s3-us-west-2.amazonaws.com", "b.s3.cn-north-1.amazonaws.com.cn",
    "b.s3.eusc-de-east-1.amazonaws.eu", "ap-1234.s3-accesspoint.us-west-2.amazonaws.com",
    "bucket.vpce-0a-1b.s3.us-west-2.vpce.amazonaws.com",
    "m.mrap.accesspoint.s3-global.amazonaws.com", "b.s3.us-iso-east-1.c2s.ic.gov",
]  # fmt: skip
NOT_OF_S3 = [
    "s3.example.com", "amazonaws.com", "ec2-1-2-3-4.us-west-2.compute.amazonaws.com",
    "s3.my-balancer-12.us-west-2.elb.amazonaws.com", "s3.amazonaws.com.example.org",
    "b.s3-website-us-west-2.amazonaws.com.evil", "xs3.amazonaws.com", "b.execute-api.amazonaws.com",
]  # fmt: skip


@pytest.mark.parametrize(
    ("host", "server"),
    [*(("127.0.0.1:9000", server) for server in KNOWN), *((host, "") for host in OF_AWS)],
)
def test_a_server_whose_order_is_promised_is_known_by_its_name_or_address(
    host: str, server: str
) -> None:
    assert why_no_order(place(f"https://{host}/b"), server, None) == ""


@pytest.mark.parametrize(
    ("host", "server"),
    [*(("s3.example.org:8333", server) for server in UNKNOWN), *((host, "") for host in NOT_OF_S3)],
)
def test_any_other_server_is_not_until_it_is_vouched_for(host: str, server: str) -> None:
    at = place(f"https://me:secret@{host}/b")
    why = why_no_order(at, server, None)
    assert host in why
    assert server in why
    assert "secret" not in why
    assert "--keys_in_order 1" in why
    assert why_no_order(at, server, True) == ""


@pytest.mark.parametrize("service", ["s3express", "s3-object-lambda", "s3-outposts"])
@pytest.mark.parametrize("vouched", [None, True])
def test_services_that_promise_no_order_have_none(service: str, vouched: bool | None) -> None:
    at = place("https://b.s3.us-west-2.amazonaws.com", service)
    assert service in why_no_order(at, "AmazonS3", vouched)
    assert why_no_order(place("https://s3.amazonaws.com"), "AmazonS3", False) != ""


# ------------------------------------------------------------------------------------------- bounds


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


def test_a_page_is_read_in_the_encoding_that_it_names() -> None:
    page = A_PAGE.replace(b"{objects}", AN_OBJECT.replace(b"{}", "a/é".encode("latin-1")))
    page = re.sub(rb"\{\w+\}", b"", page.replace(b"?>", b' encoding="iso-8859-1"?>'))
    assert read_page(page, "", 0, "a/").sizes == {"a/é": 1}


def test_more_connections_than_can_be_used_are_asked_for(run: Run, docdb: DocDB, s3: S3) -> None:
    docdb.put(record("a"))
    s3.put(BUCKET, ["a/x.nwb"])
    begun = time.monotonic()
    result = run(*FLAGS, "--max_connections=999999999")
    assert result.status == 0, result.log
    assert time.monotonic() - begun < 5
