"""Which servers are known to list keys in S3's order."""

from __future__ import annotations

import pytest

from dispatch.stores.places import Place
from dispatch.stores.servers import why_no_order


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
