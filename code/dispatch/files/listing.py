"""The files of assets: how assets are listed side by side, each page by page."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from threading import Thread

from dispatch.assets.assets import Asset, Entry, Skip
from dispatch.files.concurrency import Concurrency
from dispatch.files.found import AssetFiles, WholeAsset
from dispatch.files.parts import Outdated, Part, Turns
from dispatch.files.selection import Selection
from dispatch.stores.closed import FileNames
from dispatch.stores.locations import Chain, Page, Store, scheme_of
from dispatch.terminal.messages import FailedRun
from dispatch.terminal.progress import SECONDS_PER_FRAME, Progress

PAGES_IN_A_ROW = 4  # of one part, before it is looked at whether it can be split
KEYS_PER_FOLDER = 250  # on the average, for a request per folder to be worth while
THREADS = 32  # for calls of stores that wait
LAST_CHARACTER = "\U0010ffff"  # after all others in the order of keys

Files = dict[str, dict[str, int | None]]  # bytes by URL, by location; None where not known


class Listing:
    """The files of assets, listed side by side from the moment that they are added.

    The requests are made in coroutines (all that is `async`, of which one runs at a time), the
    listers, that take parts of assets from a queue: assets in the order in which they come, then
    the parts into which one is split. There are as many listers as there may be requests at once.
    """

    def __init__(
        self,
        stores: Mapping[str, Store],  # by scheme
        names: FileNames,
        progress: Progress,
        *,
        weigh: bool = False,  # folders that are files, by all that lies in them
        concurrency: Concurrency | None = None,
        ready: Iterable[str] = (),  # schemes of stores to be opened before there are assets
        selection: Selection | None = None,  # of the files with the extension
    ) -> None:
        self.stores, self.names, self.weigh = stores, names, weigh
        self.progress, self.ready = progress, ready
        self.concurrency = concurrency or Concurrency()
        self.selection = selection or Selection()
        self.whole_asset = WholeAsset(names.extensions, names.sidecars)
        self.found: dict[str, AssetFiles] = {}  # by location
        self.together: dict[str, list[list[str]]] = {}  # URLs of files with sidecars, by location
        self.skips: dict[str, list[Skip]] = {}  # of files, by location
        self.open_parts: Counter[str] = Counter()  # their number, by location
        self.turns = Turns()
        self.failure: Exception | None = None
        self.queue: asyncio.Queue[Part] = asyncio.Queue()
        self.listers: asyncio.TaskGroup
        self.working = 0  # listers
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(ThreadPoolExecutor(THREADS))
        self.work_of_all = self.loop.create_task(self.list_until_closed())
        Thread(target=self.run).start()

    # ------------------------------------------------------------- called by the thread that waits

    def add(self, entries: Iterable[Entry]) -> None:
        """List assets, but for those whose location is listed already."""
        if self.failure:
            raise self.failure
        parts = []
        for asset in entries:
            if isinstance(asset, Asset) and asset.location not in self.found:
                is_file = asset.location.endswith(self.names.extensions)
                names = self.whole_asset if is_file else self.names
                found = AssetFiles(asset, names, self.selection, self.weigh)
                self.found[asset.location] = found
                parts.append(Part(asset))
        self.progress.assets += len(parts)
        self.loop.call_soon_threadsafe(self.enqueue, parts)

    def files(self) -> Files:
        """Wait for all assets; return their files, ordered; raise what listing one of them did.

        From then on, it is known which files are `together`, and which are `skips`.
        """
        self.progress.complete = True
        all_listed = asyncio.run_coroutine_threadsafe(self.queue.join(), self.loop)
        while not self.failure and not all_listed.done():
            self.progress.update()
            wait([all_listed], SECONDS_PER_FRAME)
        if self.failure:
            all_listed.cancel()
            raise self.failure
        files: Files = {}
        for location, found in self.found.items():
            whole = found.whole(partial(self.url_of, location))
            files[location] = whole.sizes
            if self.names.sidecars:
                self.together[location] = whole.together
            if whole.skips:
                self.skips[location] = whole.skips
        return files

    def url_of(self, location: str, path: str) -> str:
        """Return the URL of a file below a location, or at it, for an asset that is a file."""
        return self.stores[scheme_of(location)].url_of(location, path) if path else location

    def close(self) -> None:
        """Give up what is under way."""
        self.loop.call_soon_threadsafe(self.work_of_all.cancel)

    # --------------------------------------------------------------------------------- in the loop

    def run(self) -> None:
        """Run the loop until closed."""
        with suppress(asyncio.CancelledError):
            self.loop.run_until_complete(self.work_of_all)
        self.loop.close()

    async def list_until_closed(self) -> None:
        """List; what fails, the thread that waits is told."""
        try:
            await self.work_side_by_side()
        except Exception as failure:  # of several that come at once, the first
            self.failure = getattr(failure, "exceptions", [failure])[0]
        await self.loop.create_future()  # so that whoever calls finds the loop running

    def enqueue(self, parts: Iterable[Part]) -> None:
        """Queue parts."""
        for part in parts:
            self.open_parts[part.asset.location] += 1
            self.queue.put_nowait(part)

    async def work_side_by_side(self) -> None:
        """List what is queued, with as many listers as there may be."""
        try:
            async with asyncio.TaskGroup() as self.listers:
                for scheme in self.ready:
                    self.listers.create_task(self.stores[scheme].open())
                for _ in range(int(self.concurrency.limit)):
                    self.begin_lister()
        finally:
            for store in self.stores.values():
                await store.close()

    def begin_lister(self) -> None:
        """Begin one more lister, unless there are as many as there may be."""
        if self.working + 1 <= self.concurrency.limit:
            self.working += 1
            self.listers.create_task(self.work())

    async def work(self) -> None:
        """List one part after the other, until there are more listers than there may be."""
        while self.working <= self.concurrency.limit:
            part = await self.queue.get()
            location = part.asset.location
            try:
                self.enqueue(await self.list_part(part))
            except Outdated:
                pass
            except (FailedRun, ImportError):
                raise
            except Exception as error:
                asset = f"{location} of asset {part.asset.name}"
                raise FailedRun(f"cannot list {asset}: {error}") from None
            self.open_parts[location] -= 1
            if not self.open_parts[location]:
                self.progress.listed += 1
            self.queue.task_done()
        self.working -= 1

    async def list_part(self, part: Part) -> list[Part]:
        """Count the files of a part, page by page; return the parts that it leaves to be listed.

        When a page ends inside a folder that is one file or a Zarr store, the next request starts
        after it: a store of a million chunks costs one page, and there are never more requests
        than pages. A part that goes on for many pages is split, if there is a way to.
        """
        parts: list[Part] = []
        found = self.found[part.asset.location]
        if part.folder and found.folder_to_pass(part.folder) is not None:  # known by now
            return parts
        after, token, pages = part.after, "", 0
        chain = Chain()
        while True:
            page = await self.fetch_page(part, after=after, token=token)
            chain.check(page)
            self.count(found, page)
            parts += self.parts_in(part, page.folders)
            if not page.token:
                if found.is_file and not part.folder and not found.sizes and not parts:
                    await self.count_object(found)
                return parts
            pages += 1
            token = page.token
            self.turns.tell(part, page, pages)
            if found.is_file and found.folder_to_pass("") is not None:  # the asset is the file
                return parts
            if not page.sizes or not page.is_ordered:
                continue
            paths = list(page.sizes)
            if pages >= PAGES_IN_A_ROW:
                split_parts = await self.split(part, paths)
                if split_parts is not None:
                    return [*parts, *split_parts]
            after = paths[-1]
            passed = found.folder_to_pass(after)
            if passed:
                self.turns.keep(part)
                after = max(after, f"{passed}/{LAST_CHARACTER}")
                token = ""

    def count(self, found: AssetFiles, page: Page) -> None:
        """Count what a page lists to the files of an asset."""
        number = len(found.sizes)
        for path in filter(found.names.may_count, page.sizes):
            found.count(path, page.sizes[path])
        for path in page.broken:
            found.count_broken(path)
        self.selection.hidden += page.hidden
        self.progress.files += len(found.sizes) - number

    async def count_object(self, found: AssetFiles) -> None:
        """Count what lies at the location of an asset itself, if that is one object."""
        location = found.asset.location
        size = await self.stores[scheme_of(location)].size_of(location)
        if size is not None:
            found.count_object(size)

    async def fetch_page(
        self, part: Part, *, after: str | None = None, token: str = "", level: bool = False
    ) -> Page:
        """Return a page of a part; if there is work, one more lister may begin for it."""
        self.turns.check(part)
        location = part.asset.location
        scheme = scheme_of(location)
        store = self.stores[scheme]
        started = time.monotonic()
        page = await store.list_page(location, part.folder, after=after, token=token, level=level)
        if page.breaks_order:
            self.begin_anew(scheme)
        self.turns.check(part)
        if not self.queue.empty():
            self.concurrency.adapt(scheme, time.monotonic() - started, store.refusals)
            self.begin_lister()
        return page

    def begin_anew(self, scheme: str) -> None:
        """List anew, by tokens alone, what was listed by an order that a store does not keep."""
        parts = self.turns.begin_anew(scheme)
        for part in parts:
            location = part.asset.location
            found = self.found[location]
            self.progress.files -= len(found.sizes)
            self.progress.listed -= not self.open_parts[location]
            self.selection.forget(found.passed)
            self.found[location] = replace(found, sizes={}, passed={})
        self.enqueue(parts)

    def parts_in(self, part: Part, folders: Iterable[str]) -> list[Part]:
        """Return the folders that are to be listed, as parts."""
        parts = []
        found = self.found[part.asset.location]
        for folder in folders:
            found.count(folder, 0)
            if found.folder_to_pass(folder) is None:
                parts.append(replace(part, folder=folder, after=None))
        return parts

    async def split(self, part: Part, paths: list[str]) -> list[Part] | None:
        """Count the files ahead of a page that need no listing; return the parts left to list.

        From the folder of the part down to the last of the page's paths, the subfolders ahead are
        asked for, level by level, and become parts; the last part goes on after the page. It ends,
        with None if that is at once, where a folder holds objects, or subfolders so small that a
        request for each would cost more than pages.
        """
        parts: list[Part] = []
        found = self.found[part.asset.location]
        folder, last = part.folder, paths[-1]
        while is_worth_splitting(folder, paths):
            self.turns.keep(part)
            objects, subfolders = await self.list_level(replace(part, folder=folder))
            behind: dict[str, int] = {}
            for path, size in objects.items():
                if path > last:
                    behind[path] = size
            self.count(found, Page(behind, [], ""))
            ahead, around = [], ""
            for subfolder in subfolders:
                if subfolder > last:
                    ahead.append(subfolder)
                elif last.startswith(subfolder):
                    around = subfolder
            parts += self.parts_in(part, ahead)
            if not around:
                return parts
            folder = around
            found.count(folder, 0)
            if found.folder_to_pass(folder) is not None:
                return parts
        if folder == part.folder:
            return None
        return [*parts, replace(part, folder=folder, after=last)]

    async def list_level(self, part: Part) -> tuple[dict[str, int], list[str]]:
        """Return the sizes of the objects that lie right in a folder, and its subfolders."""
        objects: dict[str, int] = {}
        subfolders: list[str] = []
        token = last = ""
        chain = Chain()
        while True:
            page = await self.fetch_page(part, after=last or None, token=token, level=True)
            chain.check(page)
            objects |= page.sizes
            subfolders += page.folders
            token, last = page.token, max([*page.sizes, *page.folders], default=last)
            if not token:
                return objects, subfolders


def is_worth_splitting(folder: str, paths: list[str]) -> bool:
    """Return whether a folder holds nothing but large subfolders, by the paths of a page."""
    inside = [path[len(folder) :] for path in paths if path.startswith(folder) and path != folder]
    subfolders = set()
    for path in inside:
        name, slash, _ = path.partition("/")
        if not slash:
            return False
        subfolders.add(name)
    return len(inside) >= KEYS_PER_FOLDER * len(subfolders)
