"""Which servers list keys in S3's own order, so that a page can begin after any key.

That is the order of the bytes of whole keys, in which `a-b/x` comes before `a/x`. What keeps files
in folders lists `a` and all in it first; a page that begins after `a/` would pass `a-b/x` over
there, and nothing would tell.
"""

from __future__ import annotations

import re
from dataclasses import replace
from urllib.parse import urlsplit

from dispatch.stores.directories import DIRECTORIES
from dispatch.stores.locations import Page
from dispatch.stores.places import Answer, Place
from dispatch.terminal.messages import echo

# How the `Server` of an answer begins, and where it is promised that keys come in S3's order. IBM's
# (Cleversafe) promises the contrary, Versity's (VERSITYGW) has had it since September 2025 only;
# SeaweedFS and s3rver list by folder. Cloudflare's and nginx stand in front of anything.
KEEP_ORDER = {
    # docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html: lexicographical, in UTF-8
    "AmazonS3",
    # the maintainers in minio-py's issue 775; in the source cmd/metacache-walk.go, since PR 13619
    "MinIO",
    # docs.ceph.com/en/latest/radosgw/s3/bucketops: unordered only where that is asked for
    "Ceph Object Gateway",
    # of Google, cloud.google.com/storage/docs/xml-api/get-bucket-list: lexicographically by name
    "UploadServer",
    # of moto: S3Backend.list_objects in moto/s3/models.py sorts by name, as Python compares strings
    "amazon.com",
}
PRODUCT = re.compile(rf"(?:^|, )(?:{'|'.join(map(re.escape, sorted(KEEP_ORDER)))})(?![\w-])")

# The hosts of S3 itself, and not those of other services of AWS, at which there may be any server.
OF_AWS = re.compile(
    r"(?:.+\.)?s3(?:-fips|-accelerate|-global|-accesspoint|-accesspoint-fips|-[a-z-]+-\d+)?"
    r"(?:\.dualstack)?(?:\.[a-z-]+-\d+)?(?:\.vpce)?"
    r"\.(?:amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov"
    r"|csp\.hci\.ic\.gov|cloud\.adc-e\.uk)"
)


def why_no_order(place: Place, server: str, vouched: bool | None) -> str:
    """Return why keys may come in another order than S3's at a place, "" if it keeps that.

    `server` is what its answer says under that name. It may be `vouched` for, or the contrary.
    """
    if place.service != "s3":  # directory buckets, Object Lambda, Outposts
        return f"{place.service} promises no order of keys"
    if vouched is False:
        return "--keys_in_order 0 says that keys come in another order"
    if vouched or PRODUCT.search(server) or OF_AWS.fullmatch(urlsplit(place.url).hostname or ""):
        return ""
    named = f"{place.host} ({echo(server)})" if server else place.host
    return f"{named} is not known to list keys in S3's order; if a-b/ comes before a/ there, " + (
        "--keys_in_order 1 makes it quick"
    )


class Orders:
    """What is known of the order in which the servers of a run list keys."""

    def __init__(self, vouched: bool | None = None) -> None:
        self.vouched = vouched
        self.is_broken = False  # by a server that was known, or vouched for

    def judge(
        self, page: Page, bucket: str, place: Place, answer: Answer, *, is_jump: bool
    ) -> Page:
        """Return a page that says whether another one can begin after any path.

        Where one has begun so at a server that is not known, behind the address of one that is, its
        keys count as out of order.
        """
        if page.in_order and not page.token and not is_jump:  # as most: no other one is asked for
            return page
        if self.is_broken:
            return replace(page, no_order="keys have come in another order than S3's")
        if bucket.endswith(DIRECTORIES):
            return replace(page, no_order="a directory bucket keeps no order of keys")
        no_order = why_no_order(place, answer.header("server"), self.vouched)
        if no_order and is_jump:
            return replace(page, in_order=False)
        return replace(page, no_order=no_order) if no_order else page
