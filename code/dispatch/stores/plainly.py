"""Requests over urllib3, for answers that AWS's runtime does not read.

Those are the ones that end by closing the connection, as HTTP/1.0 has them, whose body it takes for
empty, and those with a header that is not UTF-8.
"""

from __future__ import annotations

import time
from typing import Any

from dispatch.stores.places import Answer, NoAnswer, Place
from dispatch.stores.trust import trusting

PIECE = 65_536  # bytes


def get(
    place: Place, request: Any, certificates: str, seconds: float, largest: int
) -> Answer:
    """Return the answer to a request, signed as it may be; raise NoAnswer.

    It waits, and is called in a thread of its own.
    """
    import urllib3
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
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Answer(answer.status, headers, body)
