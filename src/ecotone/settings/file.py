"""The file of settings in the data folder, read at each start and restart: a running supervisor's environment is fixed.

Lines `NAME=value`; empty ones and those that begin with `#` are passed over. What the environment sets wins.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from ecotone.vocabulary import Invalid

NAME = "settings.env"
_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)\Z")
_QUOTES = ("'", '"')


def with_file(environ: Mapping[str, str], data: Path | None) -> dict[str, str]:
    """The environment with what the data folder's file adds to it.

    Args:
        data: the data folder when a flag names it, else ECOTONE_DATA or `./data`; the file cannot name another.

    Raises:
        Invalid: naming file and line that cannot be read; never the value, which may be a key.
    """
    folder = Path(data or environ.get("ECOTONE_DATA") or "data").expanduser()
    return _read(folder / NAME) | dict(environ)


def _read(file: Path) -> dict[str, str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"The settings in {file} cannot be read: {error}.") from None
    found = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        parts = _LINE.match(text)
        if parts is None:
            raise Invalid(f"Line {number} of {file} is no setting; NAME=value is expected.")
        value = parts[2].strip()
        quoted = len(value) > 1 and value[0] in _QUOTES and value[-1] == value[0]
        found[parts[1]] = value[1:-1] if quoted else value
    return found
