"""Which assets are of a session of which another asset matches a filter."""

from __future__ import annotations

import logging
from collections import defaultdict
from concurrent.futures import Future
from dataclasses import dataclass

from dispatch.assets.assets import Asset, Entry, Skip, assets_in
from dispatch.assets.hints import explain
from dispatch.given.values import Record
from dispatch.records.named import Named
from dispatch.records.schema import SESSION_NAME
from dispatch.terminal.messages import log, log_first, plural
from dispatch.terminal.waiting import begin, result_of

Session = str
NO_SESSION = "its session cannot be told"
HAS, LACKS = "--session_has", "--session_lacks"
REASONS = {
    HAS: f"no other asset of its session matches {HAS}",
    LACKS: f"another asset of its session matches {LACKS}",
}


@dataclass
class Matching:
    """The sessions of which assets match a filter, with the ids of two of them at most."""

    records: int
    untold: int  # of whose session nothing is known
    ids: dict[Session, set[str]]

    def is_another(self, asset: Asset, sessions: list[Session]) -> bool:
        """Return whether an asset that is another one matches, of any of these sessions."""
        return any(self.ids.get(session, set()) - {asset.record_id} for session in sessions)


def begin_asking(database: Named, query: Record) -> Future[Matching]:
    """Begin to ask of which sessions assets match a filter."""
    return begin(ask, database, query)


def ask(database: Named, query: Record) -> Matching:
    """Return of which sessions assets match a filter."""
    ids: defaultdict[Session, set[str]] = defaultdict(set)
    records = untold = 0
    name = database.names[SESSION_NAME.name]
    for page in database.find(query, ["_id", SESSION_NAME.name]):
        for record in page:
            records += 1
            sessions = name.values_in(record)
            untold += not sessions
            for session in sessions:
                if len(ids[session]) < 2:  # one of them is another one, whoever asks
                    ids[session].add(str(record.get("_id")))
    return Matching(records, untold, dict(ids))


def keep_by_session(
    entries: list[Entry], database: Named, flag: str, query: Record, question: Future[Matching]
) -> list[Entry]:
    """Return the entries, with a skip for each asset that --session_has or --session_lacks drops.

    An asset whose session cannot be told is dropped by the former, kept by the latter.
    """
    matching = result_of(question)
    report(matching, database, flag, query)
    keeps_those_with = flag == HAS
    kept: list[Entry] = []
    doubtful: list[str] = []
    for entry in entries:
        if isinstance(entry, Skip):
            kept.append(entry)
            continue
        sessions = entry.names[SESSION_NAME.name].values_in(entry.record)
        if not sessions and keeps_those_with:
            kept.append(Skip(NO_SESSION, entry.label, asked=True, warns=True))
        elif not sessions:
            doubtful.append(entry.label)
            kept.append(entry)
        elif matching.is_another(entry, sessions) == keeps_those_with:
            kept.append(entry)
        else:
            kept.append(Skip(REASONS[flag], entry.label, asked=True))
    log_first(logging.WARNING, f"{flag} keeps it, {NO_SESSION}", doubtful)
    return kept


def lacks_nothing(entries: list[Entry]) -> bool:
    """Return whether all that matches is left out by --session_lacks: nothing is left to do."""
    reasons = {entry.reason for entry in entries if isinstance(entry, Skip)}
    return bool(entries) and not assets_in(entries) and reasons == {REASONS[LACKS]}


def report(matching: Matching, database: Named, flag: str, query: Record) -> None:
    """Log how many records match, of how many sessions; and what is near, if none does."""
    if not matching.records:
        log.warning("%s: no record matches", flag)
        explain(database, [query])
        return
    untold = ""
    if matching.untold:
        untold = f", and {matching.untold:,} whose session cannot be told"
    records, sessions = plural(matching.records, "record"), plural(len(matching.ids), "session")
    log.info("%s matches %s, of %s%s", flag, records, sessions, untold)
