"""From tile ids to file names: the same on every system, no two alike, and none that leads out of the folder."""

import re
from collections.abc import Iterable

from ..provenance import digest

FOLDER = "tiles"
LONGEST = 180
_PLAIN = set(" ._-+=@,()[]{}!~^&$#';")
_ENDING = re.compile(r"\.(png|jpe?g|tiff?|jp2|j2k|webp)$", re.IGNORECASE)
#: Names that Windows keeps for devices.
_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def tile_paths(ids: Iterable[str]) -> dict[str, str]:
    """Return a path below the output for each tile id: `tiles/` and the id, its image suffix made `.png`.

    A slash in an id makes a folder. What a file system may not like (control characters, backslashes, `:*?"<>|`, a dot
    or space at an end, `..`) is percent-encoded, a part of more than 180 bytes is cut and gets a hash, and of two ids
    that would share a file, also where case does not count, the later one gets a hash.

    >>> tile_paths(["Normal/a.jpg", "../../etc/passwd"])
    {'Normal/a.jpg': 'tiles/Normal/a.png', '../../etc/passwd': 'tiles/%2E%2E/%2E%2E/etc/passwd.png'}
    """
    paths: dict[str, str] = {}
    taken: set[str] = set()
    for tile in ids:
        stem = _ENDING.sub("", tile)
        *folders, name = [part for part in stem.split("/") if part] or ["%"]
        inside = [re.sub(r"\.(png)$", r"%2E\1", _plain(part), flags=re.IGNORECASE) for part in folders]
        path = "/".join([FOLDER, *inside, _plain(name)])
        if path.casefold() in taken:
            path = f"{path}-{digest(tile)[:12]}"
        taken.add(path.casefold())
        paths[tile] = path + ".png"
    return paths


def _plain(part: str) -> str:
    text = "".join(char if char.isalnum() or char in _PLAIN else _encoded(char) for char in part)
    if not text.strip("."):
        return "%2E" * len(text)
    if text[0] in ". " or _DEVICE.match(text):
        text = _encoded(text[0]) + text[1:]
    if text[-1] in ". ":
        text = text[:-1] + _encoded(text[-1])
    raw = text.encode()
    return text if len(raw) <= LONGEST else raw[: LONGEST - 20].decode(errors="ignore") + "-" + digest(part)[:16]


def _encoded(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode("utf-8", "surrogateescape"))
