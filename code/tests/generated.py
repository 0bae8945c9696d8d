"""What is generated: app panel, packages of the environment, tables of documents, keywords.

`python code/tests/generated.py` writes all anew; a test and `cog --check` hold them fresh.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PANEL = ROOT / ".codeocean" / "app-panel.json"
ENVIRONMENT = ROOT / ".codeocean" / "environment.json"
WITH_TABLES = (
    ROOT / "code" / "docs" / "flags.md",
    ROOT / "code" / "README.md",
    ROOT / "code" / "plans.py",
)
HOUSE = ROOT / "code" / "dispatch"
# from the top: each may import from those that follow it
FOLDERS = ("plan", "tasks", "files", "assets", "records", "stores", "given", "terminal")
sys.path.insert(0, str(ROOT / "code"))

from dispatch.given.flags import (  # noqa: E402
    to_date,
    to_field,
    to_level,
    to_measure,
    to_number,
    to_positive,
    to_switch,
    to_version,
)
from dispatch.given.lists import to_bytes  # noqa: E402
from dispatch.settings import Settings  # noqa: E402

NOT_IN_PANEL = ("--overwrite",)  # Code Ocean's results folder is empty at every start
ICONS = {
    "Choose the assets": "🔎",
    "Group the assets": "🧺",
    "Find the files": "🗂️",
    "Say what will run": "🔬",
    "Go on from a plan": "📋",
    "Share out the work": "👥",
    "Folders and safety": "🛟",
    "Expert": "🧪",
}
LIMITS: dict[Any, dict[str, Any]] = {
    to_switch: {"value_type": "integer", "minimum": 0, "maximum": 1},
    to_positive: {"value_type": "integer", "minimum": 1},
    to_number: {"value_type": "integer", "minimum": 0},
    to_version: {"value_type": "string", "pattern": "^(v1|v2)?$"},
    to_level: {"value_type": "string", "pattern": "^(raw|derived)?$"},
    to_measure: {"value_type": "string", "pattern": "^(count|size)?$"},
    to_date: {"value_type": "string", "pattern": "^([0-9]{4}(-[0-9]{2}){0,2})?$"},
    to_field: {"value_type": "string", "pattern": "^[^,]*$"},
    to_bytes: {"value_type": "string", "pattern": "^[0-9.]* ?[A-Za-z]*$"},
}


def stable_id(name: str) -> str:
    """Return 16 letters and digits that stay the same for the same name."""
    digest = base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
    return "".join(c for c in digest if c.isalnum())[:16]


def flags_by_heading() -> dict[str, list[Field[Any]]]:
    """Return the settings that are flags, by the heading that they stand under."""
    flags: dict[str, list[Field[Any]]] = {}
    for setting in fields(Settings):
        if setting.metadata:
            heading = setting.metadata.get("heading") or list(flags)[-1]
            flags.setdefault(heading, []).append(setting)
    return flags


def shown_default(setting: Field[Any]) -> str:
    """Return the default of a flag as it would be given, "" if it has none."""
    default = setting.default
    if default in (None, ()):
        return ""
    return str(int(default) if isinstance(default, bool) else default)


def fields_by_category() -> dict[str, list[Field[Any]]]:
    """Return the settings that are fields of the app panel, by their category; experts' last."""
    in_sight: dict[str, list[Field[Any]]] = {}
    expert = []
    for heading, flags in flags_by_heading().items():
        in_sight[heading] = []
        for setting in flags:
            if f"--{setting.name}" in NOT_IN_PANEL:
                continue
            if setting.metadata.get("expert"):
                expert.append(setting)
            else:
                in_sight[heading].append(setting)
    shown = {heading: settings for heading, settings in in_sight.items() if settings}
    return {**shown, "Expert": expert}


def panel_field(setting: Field[Any], category: str) -> dict[str, Any]:
    """Return the field of the app panel for a setting.

    Its default is left blank where the flag has another name in the panel, which alone may be
    given, and where it is a folder of this machine.
    """
    said = setting.metadata
    is_blank = "also" in said or isinstance(setting.default, Path)
    return {
        "id": stable_id(f"--{setting.name}"),
        "category": stable_id(category),
        "name": label(setting.name),
        "param_name": setting.name,
        "description": said["help"],
        "help_text": said["help"],
        "type": "text",
        **LIMITS.get(said["convert"], {"value_type": "string"}),
        "default_value": "" if is_blank else shown_default(setting),
    }


def alias_fields() -> list[dict[str, Any]]:
    """Return a field for each other name of a flag, by which pipelines and API runs call it.

    What Code Ocean does with a named parameter that the panel has not, its documents do not say.
    """
    found = []
    for setting in fields(Settings):
        for alias in setting.metadata.get("also", "").split():
            said = f"The same as {label(setting.name)}, by its name in earlier dispatchers."
            about = {"name": label(alias[2:]), "param_name": alias[2:]}
            about |= {"description": said, "help_text": said}
            field = panel_field(setting, "Expert")
            found.append({**field, "id": stable_id(alias), **about})
    return found


def label(name: str) -> str:
    """Return what the app panel calls a flag."""
    return name.replace("_", " ").capitalize()


def app_panel() -> str:
    """Return the text of .codeocean/app-panel.json."""
    categories, parameters = [], []
    for name, settings in fields_by_category().items():
        categories.append({"id": stable_id(name), "name": name, "icon": ICONS[name]})
        for setting in settings:
            parameters.append(panel_field(setting, name))
    panel = {
        "version": 1,
        "named_parameters": True,
        "general": {
            "title": "Analysis job dispatch",
            "instructions": "Say which data assets to analyse, with a query or with a CSV of their"
            " ids, and which files in them. A field left empty means its default.",
        },
        "categories": categories,
        "parameters": [*parameters, *alias_fields()],
    }
    return as_code_ocean_writes(panel)


def environment() -> str:
    """Return the text of .codeocean/environment.json, with the packages as they are locked.

    Where the Dockerfile is edited by hand, as ours is, Code Ocean shuts its package managers off,
    and builds that (help.codeocean.com, 3311668). Were it to write one of its own from this file
    all the same, our packages are in it.
    """
    folder = ROOT / "environment"
    lock = (folder / "requirements.txt").read_text()
    packages = []
    for line in (folder / "requirements.in").read_text().splitlines():
        found = re.match(r"([\w-]+)(\[\w+\])?", line)
        if found:
            name, extra = found.groups("")
            for version in re.findall(rf"^{name}(?:\[.*?\])?==(\S+)", lock, re.MULTILINE):
                packages.append({"name": name + extra, "version": version})
    said = json.loads(ENVIRONMENT.read_text())
    said["installers"]["pip"]["packages"] = packages
    return as_code_ocean_writes(said)


def as_code_ocean_writes(content: dict[str, Any]) -> str:
    """Return JSON as Code Ocean writes its files."""
    return json.dumps(content, indent="\t", ensure_ascii=False) + "\n"


def room_table() -> str:
    """Return the table of the folders of rooms, in Markdown, each with what it says of itself."""
    lines = [
        "| folder | its rooms | what it knows, and what not |",
        "| --- | --- | --- |",
    ]
    for folder in FOLDERS:
        path = HOUSE / folder
        said = ast.get_docstring(ast.parse((path / "__init__.py").read_text())) or ""
        rooms = sorted(f"`{room.stem}`" for room in path.glob("*.py") if room.stem != "__init__")
        lines.append(f"| `{folder}` | {', '.join(rooms)} | {' '.join(said.split())} |")
    return "\n".join(lines)


def flag_table() -> str:
    """Return the table of flags, in Markdown."""
    lines = ["| flag | default | meaning |", "| --- | --- | --- |"]
    for heading, flags in flags_by_heading().items():
        lines.append(f"| **{heading}** | | |")
        for setting in flags:
            said, default = setting.metadata, shown_default(setting)
            also = f"<br>also `{said['also']}`" if "also" in said else ""
            if isinstance(setting.default, Path):
                default = f"<root>/{setting.default.relative_to(ROOT)}"
            shown = f"`{default}`" if default else ""
            value = said["metavar"].replace("|", "\\|")
            lines.append(f"| `--{setting.name} {value}`{also} | {shown} | {said['help']} |")
    return "\n".join(lines)


# What plans.make_plan says itself.
NO_KEYWORDS = ("dry_run", "output_directory", "overwrite")


def keywords() -> str:
    """Return the keywords of plans.make_plan, several on a line, as of an argument list."""
    lines = [""]
    for setting in fields(Settings):
        if setting.metadata and setting.name not in NO_KEYWORDS:
            word = f"{setting.name}: {kind_of(setting)} = None,"
            if len(lines[-1]) + len(word) > 95:
                lines.append("")
            lines[-1] += f" {word}"
    return "\n".join(f"    {line.strip()}" for line in lines)


def kind_of(setting: Field[Any]) -> str:
    """Return what plans.py calls the values that a keyword may have."""
    if setting.metadata["metavar"] == "FILTER":
        return "Filter"
    if setting.metadata["convert"] in (to_number, to_positive):
        return "Number"
    for beginning, kind in (("tuple[", "Names"), ("bool", "Switch")):
        if str(setting.type).startswith(beginning):
            return kind
    return "Folder" if "Path" in str(setting.type) else "Text"


def main() -> None:
    """Write the app panel, the environment, the tables and the keywords anew."""
    PANEL.write_text(app_panel(), encoding="utf-8")
    ENVIRONMENT.write_text(environment(), encoding="utf-8")
    tests = str(Path(__file__).parent)
    subprocess.run(
        [sys.executable, "-m", "cogapp", "-r", "-I", tests, *map(str, WITH_TABLES)], check=True
    )


if __name__ == "__main__":
    main()
