"""Environments of Python with other packages than those of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def make_environment(folder: Path, *packages: str, alone: str = "") -> str:
    """Make an environment with packages, one of them without what it needs.

    Return why it cannot be made, "" if it is.
    """
    uv = [sys.executable, "-m", "uv", "--quiet"]  # which keeps what it has downloaded
    install = [*uv, "pip", "install", "--python", str(folder / "bin" / "python")]
    commands = [[*uv, "venv", "--allow-existing", "--python", sys.executable, str(folder)]]
    commands.append([*install, *packages])
    if alone:
        commands.append([*install, "--no-deps", alone])
    env = {**os.environ, "UV_SYSTEM_CERTS": "true"}
    if "PIP_INDEX_URL" in env:  # uv asks where pip does
        env.setdefault("UV_DEFAULT_INDEX", env["PIP_INDEX_URL"])
    for command in commands:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip().rpartition("\n")[2][-200:] or "uv fails"
    return ""
