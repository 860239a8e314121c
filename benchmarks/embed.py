"""How fast the package imports, and what `embed` costs beside the bare forward pass of its encoder.

The peer is torch itself: the same ViT-S/16 on batches that lie ready in memory, normalised before the clock starts.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from _bench import interleaved, seconds, spread, start
from PIL import Image

from histolatent import PhantomSpec, PhantomTiles, embed, encoder, prepare
from histolatent.encoders.torch_models import TorchEncoder, normalise, to_device
from histolatent.images import default_workers

ARCHITECTURE = "timm-random:vit_small_patch16_224"
BATCH = 64
DISTINCT = 64  # phantom tiles that are drawn; each is written under several names


def main() -> None:
    """Measure and write `results/embed.json`."""
    bench = start("embed", __doc__ or "")
    full = bench.mode == "full"
    _start_up(bench, 15 if full else 7)
    _overhead(bench, tiles=768, repeats=5 if full else 2)
    bench.finish()


def _start_up(bench, repeats: int) -> None:
    commands = {
        "import_histolatent_s": ([sys.executable, "-c", "import histolatent"], "< 0.3"),
        "histolatent_help_s": ([str(Path(sys.executable).parent / "histolatent"), "--help"], "< 0.6"),
    }
    for name, (command, target) in commands.items():
        runs = [
            seconds(lambda c=command: subprocess.run(c, check=True, capture_output=True)) for _ in range(repeats + 1)
        ]
        bench.measured[name] = spread(runs[1:])
        bench.check(name, bench.measured[name]["median"], target)


def _overhead(bench, tiles: int, repeats: int) -> None:
    loaded = encoder(ARCHITECTURE, device="cpu")
    assert isinstance(loaded, TorchEncoder)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "tiles"
        source.mkdir()
        cohort = PhantomTiles(PhantomSpec(sites=1, tile_px=224, tiles_per_site=DISTINCT))
        drawn = [Image.fromarray(cohort.read(i)) for i in range(DISTINCT)]
        for i in range(tiles):
            drawn[i % DISTINCT].save(source / f"{i:04d}.jpg", quality=90)
        arrays = [np.asarray(Image.open(path)) for path in sorted(source.iterdir())]
        rule = loaded.card.preprocessing
        ready = [np.stack([prepare(tile, rule) for tile in arrays[i : i + BATCH]]) for i in range(0, tiles, BATCH)]
        batches = [normalise(to_device(batch, "cpu"), rule) for batch in ready]

        def bare() -> None:
            with torch.inference_mode():
                for batch in batches:
                    loaded.embed(loaded.model, batch, loaded.card.pooling)

        def whole() -> None:
            out = Path(folder) / "emb.zarr"
            embed(source, loaded, out, batch_size=BATCH, workers=default_workers(), overwrite=True)

        with torch.inference_mode():
            loaded.embed(loaded.model, batches[0], loaded.card.pooling)  # warm up
        forward, complete = interleaved(bare, whole, repeats)
    bench.measured["bare_forward_tiles_per_s"] = spread([tiles / value for value in forward])
    bench.measured["embed_tiles_per_s"] = spread([tiles / value for value in complete])
    bench.measured["setting"] = {
        "encoder": ARCHITECTURE,
        "tiles": tiles,
        "format": "JPEG 224 px",
        "batch": BATCH,
        "workers": default_workers(),
        "torch_threads": torch.get_num_threads(),
    }
    ratios = [a / b for a, b in zip(forward, complete, strict=True)]
    bench.measured["ratio_embed_to_bare"] = spread(ratios)
    bench.check("embed_share_of_bare_forward", bench.measured["ratio_embed_to_bare"]["median"], ">= 0.9")


if __name__ == "__main__":
    main()
