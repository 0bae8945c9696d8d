"""What is generated: the app panel, the table of flags, the table of rooms.

`python code/tests/generated.py` writes all anew; a test and `cog --check` hold them fresh.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import subprocess
import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PANEL = ROOT / ".codeocean" / "app-panel.json"
WITH_TABLES = (ROOT / "code" / "docs" / "flags.md", ROOT / "code" / "README.md")
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
    to_suffix,
    to_switch,
    to_version,
)
from dispatch.settings import Settings  # noqa: E402

# Folders are Code Ocean's own, and its results folder is empty at every start.
NOT_IN_PANEL = ("--input_directory", "--output_directory", "--overwrite")
ICONS = {
    "Choose the assets": "🔎",
    "Group the assets": "🧺",
    "Find the files": "🗂️",
    "Say what will run": "🔬",
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
    to_suffix: {"value_type": "string", "pattern": "^[^/*?\\[\\]]*$"},
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
    return {**in_sight, "Expert": expert}


def app_panel() -> str:
    """Return the text of .codeocean/app-panel.json."""
    categories, parameters = [], []
    for name, settings in fields_by_category().items():
        categories.append({"id": stable_id(name), "name": name, "icon": ICONS[name]})
        for setting in settings:
            said = setting.metadata
            parameters.append(
                {
                    "id": stable_id(f"--{setting.name}"),
                    "category": stable_id(name),
                    "name": setting.name.replace("_", " ").capitalize(),
                    "param_name": setting.name,
                    "description": said["help"],
                    "help_text": said["help"],
                    "type": "text",
                    **LIMITS.get(said["convert"], {"value_type": "string"}),
                    "default_value": shown_default(setting),
                }
            )
    panel = {
        "version": 1,
        "named_parameters": True,
        "general": {
            "title": "Analysis job dispatch",
            "instructions": "Say which data assets to analyse, with a query or with a CSV of their"
            " ids, and which files in them. A field left empty means its default.",
        },
        "categories": categories,
        "parameters": parameters,
    }
    return json.dumps(panel, indent="\t", ensure_ascii=False) + "\n"


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


def main() -> None:
    """Write the app panel and the tables of the documents anew."""
    PANEL.write_text(app_panel(), encoding="utf-8")
    tests = str(Path(__file__).parent)
    subprocess.run(
        [sys.executable, "-m", "cogapp", "-r", "-I", tests, *map(str, WITH_TABLES)], check=True
    )


if __name__ == "__main__":
    main()
