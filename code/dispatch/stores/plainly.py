"""Requests over urllib3, for answers that AWS's runtime does not read.

Those are the ones that end by closing the connection, as HTTP/1.0 has them, whose body it takes for
empty, and those with a header that is not UTF-8.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import unquote, urlsplit

from dispatch.stores.places import Answer, NoAnswer, Place
from dispatch.stores.trust import trusting
from dispatch.terminal.reading import read_body


def get(place: Place, request: Any, certificates: str, seconds: float, largest: int) -> Answer:
    """Return the answer to a request, signed as it may be; raise OSError.

    It waits, and is called in a thread of its own.
    """
    from urllib3.exceptions import HTTPError

    options: dict[str, Any] = {"retries": False, "timeout": seconds}
    if place.url.startswith("https:") or (place.proxy or "").startswith("https:"):
        options["ssl_context"] = trusting(certificates)
    scheme, _, rest = place.url.partition("://")
    url = f"{scheme}://{rest.partition('/')[0]}{request.path}"
    end = time.monotonic() + seconds
    try:
        with manager(place, options) as pool:
            answer = pool.request(
                request.method,
                url,
                headers=dict(request.headers),
                preload_content=False,
                redirect=False,
                decode_content=False,
            )
            body = read_body(answer, largest, end)
    except HTTPError as error:
        raise NoAnswer(str(error)) from None
    return Answer(answer.status, list(answer.headers.items()), body)


def manager(place: Place, options: dict[str, Any]) -> Any:
    """Return what makes connections to a place, directly or through its proxy."""
    import urllib3

    if not place.proxy:
        return urllib3.PoolManager(**options)
    url = urlsplit(place.proxy)
    words = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
    headers = urllib3.make_headers(proxy_basic_auth=words) if url.username else None
    if url.scheme == "https":
        options["proxy_ssl_context"] = options["ssl_context"]
    return urllib3.ProxyManager(place.shown_proxy, proxy_headers=headers, **options)
