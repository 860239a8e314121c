"""Which files a source reads, so that no output is put in their place."""

from .arrays import ArrayTiles
from .cut import CutTiles
from .files import FileTiles
from .selected import SelectedTiles
from .tiles import TileSource


def input_files(source: TileSource) -> tuple[str, ...]:
    """Return the files that a source reads: its tiles, its manifest, its array. None for a source of one's own."""
    while isinstance(source, SelectedTiles):
        source = source.source
    if isinstance(source, CutTiles):
        source = source.whole
    if isinstance(source, ArrayTiles):
        return (source.reader.path,)
    if isinstance(source, FileTiles):
        return (*source.reader.files, *([source.manifest] if source.manifest else []))
    return ()
