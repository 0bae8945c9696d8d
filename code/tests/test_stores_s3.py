"""S3 over its protocol: regions, credentials, proxies, and how pages are worded."""

from __future__ import annotations

from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from dispatch.stores.s3 import read_page
from standins import BUCKET, KEY_ID, S3, SECRET, DocDB, Proxy, record


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


def test_without_credentials_requests_are_unsigned(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put("open-bucket", ["x/a.nwb", "y/tab\t.nwb"], public=True)
    docdb.put(record("x", "open-bucket"), record("y", "open-bucket"))
    no_credentials = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    result = run("--query", "{}", "--file_extension", ".nwb", env=no_credentials)
    assert result.status == 0, result.log
    assert len(result.tasks()) == 2
    assert "unsigned" in result.log
    assert not any(request.signature for request in s3.requests)


def test_profile_credentials_and_endpoint_are_used(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb", "y/tab\t.nwb"])
    docdb.put(record("x"), record("y"))
    first = run("--query", "{}", "--file_extension", ".nwb")
    home = first.output.parent / "home" / ".aws"
    home.mkdir()
    (home / "credentials").write_text(
        f"[lab]\naws_access_key_id={KEY_ID}\naws_secret_access_key={SECRET}\n"
    )
    (home / "config").write_text(f"[profile lab]\nregion=us-west-2\nendpoint_url={s3.url}\n")
    profile = {
        "AWS_PROFILE": "lab",
        "AWS_ACCESS_KEY_ID": None,
        "AWS_SECRET_ACCESS_KEY": None,
        "AWS_ENDPOINT_URL": None,
    }
    again = run("--query", "{}", "--file_extension", ".nwb", "--overwrite=1", env=profile)
    assert again.status == 0, again.log
    assert again.files() == first.files()
    missing = run("--query", "{}", "--file_extension", ".nwb", env={"AWS_PROFILE": "nobody"},
                  output=first.output.parent / "other")  # fmt: skip
    assert missing.status == 1
    assert "nobody" in missing.error


def test_an_authority_of_ones_own_is_trusted(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    with s3.over_tls(docdb.certificate) as url:
        for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
            env = {"AWS_ENDPOINT_URL": url, name: str(docdb.ca_file)}
            result = run("--query", "{}", "--file_extension=.nwb", "--overwrite=1", env=env)
            assert result.status == 0, result.log


def test_a_proxy_is_used_unless_the_host_needs_none(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    proxy = Proxy()
    with s3.over_tls(docdb.certificate) as url:
        host = url.removeprefix("https://")
        env = {"AWS_ENDPOINT_URL": url, "HTTPS_PROXY": proxy.url, "AWS_DEFAULT_REGION": "us-west-2"}
        result = run("--query", "{}", "--file_extension=.nwb", env=env)
        assert result.status == 0, result.log
        assert proxy.asked.count(host) == 1
        proxy.asked.clear()
        result = run("--query={}", "--file_extension=.nwb", "--overwrite=1",
                     env={**env, "NO_PROXY": "localhost"})  # fmt: skip
        assert result.status == 0, result.log
        assert proxy.asked == []


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_endpoint_for_s3_wins(name: str, run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    nowhere = "http://127.0.0.1:9"
    env = {"AWS_ENDPOINT_URL": nowhere, "AWS_ENDPOINT_URL_S3": s3.url}
    if name == "AWS_ENDPOINT_URL":
        env = {"AWS_ENDPOINT_URL": s3.url}
    assert run("--query", "{}", "--file_extension", ".nwb", env=env).status == 0


def test_a_role_is_assumed(run: Run, docdb: DocDB, s3: S3) -> None:
    # moto answers for STS at the same address; the keys it gives out are not the stand-in's, so
    # the refusal that names them shows that the role's own were used.
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    folder = run("--query", "{}").output.parent
    (folder / "home" / ".aws").mkdir()
    (folder / "home" / ".aws" / "config").write_text(
        "[profile role]\nrole_arn=arn:aws:iam::123456789012:role/reader\n"
        "source_profile=base\nregion=us-west-2\n"
        f"[profile base]\naws_access_key_id={KEY_ID}\naws_secret_access_key={SECRET}\n"
    )
    env = {"AWS_PROFILE": "role", "AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}
    result = run("--query", "{}", "--file_extension", ".nwb", env=env, output=folder / "with-role")
    assert result.status == 1
    assert "InvalidAccessKeyId" in result.error
    assert any(request.method == "POST" and request.path == "/" for request in s3.requests)


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


def test_a_setting_that_boto3_refuses_is_told(run: Run, docdb: DocDB, s3: S3) -> None:
    s3.put(BUCKET, ["x/a.nwb"])
    docdb.put(record("x"))
    for name, value in (
        ("AWS_ENDPOINT_URL", "nonsense"),
        ("AWS_ENDPOINT_URL", "http://me:secret@no host"),
    ):
        result = run("--query={}", "--file_extension=nwb", env={name: value})
        assert result.status == 1
        assert result.error.startswith("error: AWS: ")
        assert "secret" not in result.log
