"""Filters as people write and paste them, and what is in one."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from dispatch.given.values import Record, as_list, check_values, compact, unique_keys
from dispatch.terminal.messages import BadInput, excerpt, reason_of


def looks_like_filter(string: str) -> bool:
    """Return whether a string is more likely a filter than the name of a file."""
    return bool(re.search(r"""["'{}:]|^\[""", string))


def parse_filter(string: str, source: str) -> Record:
    """Return a filter from a JSON object or a Python dict literal; raise BadInput."""
    string = without_quotes(string)
    instead = advice_on_pipeline(string)
    if instead:
        raise BadInput(f"{source}: {instead}: {excerpt(string)}")
    try:
        query = read_value(string)
    except ValueError as fault:
        what = f"{advice_on_pasted(string)}it is neither a JSON object nor a Python dict"
        raise BadInput(f"{source}: {what}: {fault}: {excerpt(string)}") from None
    if not isinstance(query, dict):
        raise BadInput(f"{source} is a {type(query).__name__}, not an object: {excerpt(string)}")
    check_values(query, f"{source}: the filter")  # a dict literal can hold sets and bytes
    if re.search(r'[{,]"":', compact(query)):
        why = "between double quotes, a shell takes $gte and the like for variables of its own"
        raise BadInput(f"{source}: a key is empty; {why}: {excerpt(string)}")
    return query


def without_quotes(string: str) -> str:
    """Take off quotes around the whole, a slip that is common in pasting."""
    string = string.strip()
    while len(string) > 1 and string[0] == string[-1] and string[0] in "'\"`":
        inner = string[1:-1]
        if '\\"' in inner:  # "{\"name\": \"a\"}": those inside are escaped
            with suppress(ValueError):
                inner = json.loads(string)
        string = inner.strip()
    return string


def read_value(string: str) -> Any:
    """Return what JSON says, or a Python literal; raise ValueError, and BadInput for its keys.

    The fault is JSON's, or Python's if the first quote in the string is a single one.
    """
    try:
        return json.loads(string, object_pairs_hook=unique_keys)
    except (ValueError, RecursionError) as error:
        json_fault = error
    try:
        return read_literal(string)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as fault:
        quote = re.search("[\"']", string)
        is_python = quote and quote[0] == "'"
        raise ValueError(reason_of(fault if is_python else json_fault)) from None


def read_literal(string: str) -> Any:
    """Return what a Python literal says; raise BadInput for keys that JSON could not keep."""
    check_commas(string)
    with warnings.catch_warnings(action="ignore"):  # of "\d" in a regular expression
        tree = ast.parse(string, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            unique_keys([(ast.literal_eval(key), None) for key in node.keys if key])
    return ast.literal_eval(tree)


def check_commas(string: str) -> None:
    """Raise ValueError for two strings side by side between which a comma is missing.

    Python would join them. That is meant where a value is split, but for a key that follows; and in
    a list where pprint has split a string, which it does behind a blank and over lines.
    """
    words: list[tokenize.TokenInfo] = []
    with suppress(tokenize.TokenError, SyntaxError):  # the fault is told by who reads it next
        for token in tokenize.generate_tokens(io.StringIO(string.strip(), newline=None).readline):
            if token.type not in (tokenize.NL, tokenize.COMMENT):
                words.append(token)
    before = ""  # the strings that stand side by side
    for at, word in enumerate(words):
        following = words[at + 1 : at + 3]
        if word.type != tokenize.STRING or len(following) < 2:
            before = word.string
            continue
        two, after = following
        if two.type != tokenize.STRING:
            continue
        is_split = word.end[0] < two.start[0] and re.search(r"(\s|\\[nrtvf])[\"']+$", word.string)
        if after.string == ":" or (before != ":" and not is_split):
            raise ValueError(f"a comma is missing between two strings, before {two.string}")


def advice_on_pipeline(string: str) -> str:
    """Return what to give in place of an aggregation pipeline or an assignment, "" if it is none.

    The examples of the institute are full of these.
    """
    assigned = re.match(r"([A-Za-z_][\w.]*)\s*=\s*(?=[\[{(])", string)
    if assigned:
        return f"take away {assigned[0].strip()!r} in front of the filter"
    if re.match(r"""[\[(]?\s*\{\s*["']?\$match["']?\s*:\s*\{""", string):
        example = """of [{"$match": {"name": "a"}}], give {"name": "a"}"""
        return f"this is a pipeline, give what stands behind $match: {example}"
    if re.fullmatch(r"\{.*\}\s*[,;]+", string, re.DOTALL):
        return f"take away the {string[-1]!r} at the end"
    return ""


# What is pasted from programs, shells and text editors, and what is to be written in its place.
PASTED = (
    (r"\b(?:new )?(?:datetime\.|dt\.)?(?:datetime|date|Date|ISODate|Timestamp)\(",
     'the date as a string, such as "2025-03-04T09:12:33"'),
    (r"\b(?:ObjectId|UUID|uuid\.UUID)\(", "the id as a string, in quotes"),
    (r"\b(?:re\.compile|RegExp|Regex)\(|:\s*/", 'a regular expression as {"$regex": "..."}'),
    (r"\b(?:Number(?:Long|Int|Decimal)|Int64|Decimal128|Decimal)\(", "the number alone"),
    ("[\u201c\u201d\u201e\u2018\u2019\u00ab\u00bb]", "straight quotes"),
    (r"\b(?:str|int|float|list|repr)\(", "the value itself"),
    (r"[{,]\s*[A-Za-z_$][\w.$]*\s*:", 'names in quotes, such as {"name": ...}'),
    (r"\b(?:true|false|null)\b", "True, False and None between single quotes, or all as JSON"),
)  # fmt: skip


WORDS = (
    (r"\b[fFrRbB]{1,2}\"\"", "a plain string, with the values in it"),
    (r"\b(?!(?:True|False|None)\b)[A-Za-z_][\w.]*", "the value itself"),
)


def advice_on_pasted(string: str) -> str:
    """Return what to write in place of what no filter can hold, "" if nothing such is there."""
    bare = re.sub(r"""("|')(?:(?!\1)[^\\\n]|\\.)*\1""", '""', string)  # without what is in quotes
    patterns = [*PASTED]
    if not re.search("""["'](?<!"")(?!")""", bare):  # else a quote is missing, and all is a word
        patterns += WORDS
    for pattern, instead in patterns:
        pasted = re.search(pattern, bare)
        if pasted:
            shown = pasted[0].strip("{, ")
            if shown.endswith("("):
                shown += "...)"
            return f"write {instead}, in place of {shown}; "
    return ""


def combine(conditions: list[Record]) -> Record:
    """Return the filter for what meets all of these conditions."""
    whole: Record = {}
    for condition in conditions:
        if whole.keys() & condition.keys():
            return {"$and": list(filter(None, conditions))}
        whole |= condition
    return whole


def lists_in(query: Record) -> dict[str, list[Any]]:
    """Return the strings and numbers of each $in on a plain field that all records must match."""
    lists: dict[str, list[Any]] = {}
    for part in [query, *as_list(query.get("$and", []))]:
        if not isinstance(part, dict):
            continue
        for name, wanted in part.items():
            is_plain = re.fullmatch(r"[^$.\d][^.]*(\.[^$.\d][^.]*)*", name)
            if is_plain and isinstance(wanted, dict) and isinstance(wanted.get("$in"), list):
                lists[name] = [one for one in wanted["$in"] if isinstance(one, str | int | float)]
    return lists


def conditions_of(query: Record) -> Iterator[Record]:
    """Yield the conditions of a filter one by one, also those of $and and the branches of $or."""
    for name, value in query.items():
        if name in ("$and", "$or") and isinstance(value, list):
            for part in value:
                if isinstance(part, dict):
                    yield from conditions_of(part)
        else:
            yield {name: value}


def wanted_values(wanted: Any) -> list[Any]:
    """Return the strings and numbers that a condition asks for."""
    values = [wanted]
    if isinstance(wanted, dict):
        members = wanted.get("$in")
        values = members if isinstance(members, list) else [wanted.get("$eq")]
    return [value for value in values if isinstance(value, str | int | float)]
