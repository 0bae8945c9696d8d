"""Parts of assets, each listed by itself, and what becomes of them where keys have no order."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dispatch.assets.assets import Asset
from dispatch.stores.locations import Page, scheme_of
from dispatch.terminal.messages import log, plural

PAGES_IN_SILENCE = 10  # of an asset in which nothing can be passed over
ONE_BY_ONE = "%s: more than %d pages, asked for one by one, all of its Zarr stores too: %s"
OTHER_ORDER = (
    "keys of %s:// locations come in another order than S3's: %s listed anew, page by page"
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of an asset that is listed by itself: what lies in a folder, after a path."""

    asset: Asset
    folder: str = ""  # a path below the asset that ends in a slash, or ""
    after: str | None = None
    turn: int = 0  # how often its asset had been begun anew


class Outdated(Exception):
    """The asset of a part has been begun anew."""


class Turns:
    """Which assets are listed by the order of keys, and how often each has been begun anew."""

    def __init__(self) -> None:
        self.by_order: dict[str, Asset] = {}  # split or jumped in, by location
        self.numbers: Counter[str] = Counter()  # by location
        self.told: set[str] = set()  # why there is no order

    def keep(self, part: Part) -> None:
        """Keep in mind that the asset of a part is listed by the order of keys."""
        self.by_order[part.asset.location] = part.asset

    def check(self, part: Part) -> None:
        """Raise Outdated for a part of an asset that has been begun anew since."""
        if part.turn != self.numbers.get(part.asset.location, 0):
            raise Outdated

    def begin_anew(self, scheme: str) -> list[Part]:
        """Return the parts with which assets begin anew: those of a store listed by an order."""
        parts = []
        for location, asset in list(self.by_order.items()):
            if scheme_of(location) == scheme:
                del self.by_order[location]
                self.numbers[location] += 1
                parts.append(Part(asset, turn=self.numbers[location]))
        log.warning(OTHER_ORDER, scheme, plural(len(parts), "asset"))
        return parts

    def tell(self, part: Part, page: Page, pages: int) -> None:
        """Say what it costs that a store may keep no order, once for each reason."""
        if page.no_order and pages == PAGES_IN_SILENCE and page.no_order not in self.told:
            self.told.add(page.no_order)
            log.info(ONE_BY_ONE, part.asset.location, pages, page.no_order)
