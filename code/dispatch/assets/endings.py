"""What names end in, where no file was found: asked of a few assets, for a hint."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from dispatch.assets.assets import Asset
from dispatch.stores.closed import data_set_of
from dispatch.stores.locations import Store, scheme_of

ASSETS_ASKED = 3
ENDINGS_SHOWN = 5


def endings_in(make_stores: Callable[[], Mapping[str, Store]], assets: Iterable[Asset]) -> str:
    """Return what the names in the first assets end in, in words, "" if there are none.

    One page of each is asked for; a Zarr store counts once.
    """
    asked = list(assets)[:ASSETS_ASKED]
    loop = asyncio.new_event_loop()  # not asyncio.run, which waits for calls that were given up
    try:
        return loop.run_until_complete(count_endings(make_stores(), asked))
    finally:
        loop.close()


async def count_endings(stores: Mapping[str, Store], assets: list[Asset]) -> str:
    """Return the most frequent endings with their numbers, in words."""
    counts: Counter[str] = Counter()
    try:
        for asset in assets:
            store = stores[scheme_of(asset.location)]
            pages = [await store.list_page(asset.location, "", after=None, token="", level=False)]
            for folder in pages[0].folders[:10]:  # of a local asset
                pages.append(
                    await store.list_page(asset.location, folder, after=None, token="", level=False)
                )
            names: set[str] = set()
            for page in pages:
                names |= set(map(data_set_of, [*page.sizes, *page.folders]))
            counts.update(filter(None, map(ending_of, sorted(names))))
    finally:
        for store in stores.values():
            await store.close()
    shown = [f"{ending} ({number:,})" for ending, number in counts.most_common(ENDINGS_SHOWN)]
    return ", ".join(shown)


def ending_of(path: str) -> str:
    """Return what a name ends in, such as .nwb or .nwb.zarr, "" for a folder or a bare name."""
    name = path.rpartition("/")[2]
    ending = re.search(r"(?<=.)(\.[A-Za-z]\w{0,9})?\.[A-Za-z0-9]\w{0,9}$", name)
    if not ending:
        return ""
    is_double = name.endswith((".zarr", ".gz", ".n5", ".bz2"))
    return ending[0] if is_double else f".{name.rpartition('.')[2]}"
