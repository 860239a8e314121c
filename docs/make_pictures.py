"""Make the pictures of the documentation in docs/img: report.png from the demo, size.png of a model, and the phantom's.

    python docs/make_pictures.py                                  # runs the demo in a temporary folder first
    python docs/make_pictures.py --report demo/audit/report.html  # takes a report that is there
    python docs/make_pictures.py --model vae/                     # takes a variational model of COHORT that is there

Needs chromium (Debian's package) for the report; nothing is fetched. Each picture is kept below 300 kB.
"""

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from histolatent import PhantomSpec, PhantomTiles, open_tiles
from histolatent.explore.generative.model import read_model
from histolatent.explore.space import LatentSpace
from histolatent.perturb import OPERATIONS
from histolatent.report.exploring import draw_rows
from histolatent.report.ladders import draw_ladders
from histolatent.report.stain import draw_stain
from histolatent.stain import StainManifold, fit_stains

IMAGES = Path(__file__).parent / "img"
MOST_BYTES = 300_000
WIDTH_PX = 1120
FAINT = 200  # grey level: the rules of a table are lighter, text and chips are darker
TILE_PX, GAP_PX, LEFT_PX, TOP_PX = 144, 6, 150, 30
AXIS_PAIRS = (
    ("hematoxylin_gain", "eosin_gain"),
    ("hematoxylin_turn", "eosin_turn"),
    ("illuminant_red", "illuminant_blue"),
    ("blur", "gamma"),
)
SHOWN = ("rotation", "hematoxylin-gain", "blur", "jpeg", "pen", "nuclei-erased")
#: What the model of size.png is trained on, and how far nuclei are moved there, in standard deviations.
COHORT = "phantom:sites=3,patients=8,slides=1,tiles_per_site=400"
AMOUNTS = (-2, -1, 0, 1, 2)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="a report.html; without it, the demo is run")
    parser.add_argument("--model", type=Path, help="a model of explore train on COHORT; without it, one is trained")
    parser.add_argument("--height", type=int, default=900, help="px of the page that the picture shows")
    arguments = parser.parse_args()
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        report = arguments.report or run_demo(Path(folder))
        page = photograph(report, Path(folder), arguments.height)
        sizes = draw_sizes(arguments.model or train_model(Path(folder)))
    pictures = {
        "report.png": trim(page),
        "size.png": sizes,
        **draw_stains(),
        "phantom.png": draw_phantom(),
        "ladders.png": draw_few(),
    }
    for name, picture in pictures.items():
        size = save_small(picture, IMAGES / name)
        sys.stdout.write(f"{IMAGES / name}: {picture.width} x {picture.height} px, {size // 1000} kB\n")


def run_demo(folder: Path) -> Path:
    """Run `histolatent demo` and return its report."""
    subprocess.run([sys.executable, "-m", "histolatent", "demo", "--out", str(folder / "demo")], check=True)
    return folder / "demo" / "audit" / "report.html"


def photograph(report: Path, folder: Path, height: int) -> Image.Image:
    """Return the top of a page as a headless browser shows it."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit("no chromium on this machine: install it, or copy docs/img/report.png from elsewhere")
    target = folder / "page.png"
    command = [browser, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={WIDTH_PX},{height}"]
    command += [f"--screenshot={target}", report.resolve().as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    with Image.open(target) as picture:
        return picture.convert("RGB")


def trim(page: Image.Image) -> Image.Image:
    """Cut the page at the last gap that leaves no text halved, and the margins at the sides."""
    ink = np.asarray(page.convert("L")) < FAINT
    rows, columns = ink.any(axis=1), np.flatnonzero(ink.any(axis=0))
    gaps = [y for y in range(int(0.6 * len(rows)), len(rows) - GAP_PX) if not rows[y : y + GAP_PX].any()]
    bottom = gaps[-1] + GAP_PX // 2 if gaps else page.height
    return page.crop((max(columns[0] - 16, 0), 0, min(columns[-1] + 17, page.width), bottom))


def train_model(folder: Path) -> Path:
    """Train the preset demo of `histolatent explore train` on COHORT."""
    command = [sys.executable, "-m", "histolatent", "explore", "train", COHORT, "--kind", "vae"]
    subprocess.run([*command, "--out", str(folder / "vae")], check=True)
    return folder / "vae"


def draw_sizes(model: Path) -> Image.Image:
    """Draw four tiles with their nuclei made smaller and larger, colours and density held."""
    source, decoder = open_tiles(COHORT), read_model(model)
    assert isinstance(source, PhantomTiles)
    known = source.truth[["nuclear_area_um2", "nuclear_density_per_mm2"]]
    vectors = decoder.encode(source.read(row) for row in range(len(source.table)))
    space = LatentSpace(vectors, tuple(map(str, source.table.index)), decoder, obs=source.table.join(known))
    size, density = (space.seen(str(name)) for name in known)
    larger = size.without(density)
    rows = {
        name.replace("/", "\n", 1): space.decode(
            np.stack([space[name].move(larger, amount * size.spread).vector for amount in AMOUNTS])
        )
        for name in space.tiles[:: len(space.tiles) // 4][:4]
    }
    heads = [f"{amount:+g} sd" if amount else "as it is" for amount in AMOUNTS]
    sheet = Image.open(io.BytesIO(draw_rows(rows, heads=heads).png)).convert("RGB")
    return sheet.resize((WIDTH_PX, sheet.height * WIDTH_PX // sheet.width), Image.Resampling.LANCZOS)


def draw_phantom() -> Image.Image:
    """Draw a contact sheet: a row per class, the same tile under the protocol of each site in a column."""
    spec = PhantomSpec(patients=2, slides=1, tiles_per_site=20, tile_px=192)
    tiles = PhantomTiles(spec)
    source = tiles.table["site"].to_numpy() == spec.site_names[0]
    labels = list(dict.fromkeys(tiles.table.loc[source, "label"]))
    step = TILE_PX + GAP_PX
    size = (LEFT_PX + step * len(spec.site_names), TOP_PX + step * len(labels))
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    for column, site in enumerate(spec.site_names):
        pen.text((LEFT_PX + step * column, 6), site, fill="#1c2330", font=font)
    for row, label in enumerate(sorted(labels)):
        pen.text((4, TOP_PX + step * row + TILE_PX // 2 - 8), label, fill="#1c2330", font=font)
        index = int(np.flatnonzero(source & (tiles.table["label"].to_numpy() == label))[0])
        for column, site in enumerate(spec.site_names):
            tile = Image.fromarray(tiles.read_as(index, site)).resize((TILE_PX, TILE_PX), Image.Resampling.LANCZOS)
            sheet.paste(tile, (LEFT_PX + step * column, TOP_PX + step * row))
    return sheet


def draw_few() -> Image.Image:
    """Draw `perturb show` of a phantom tile under a few operations."""
    spec = PhantomSpec(sites=1, patients=2, slides=1, tiles_per_site=20, tile_px=192)
    tiles = PhantomTiles(spec)
    chosen = int(np.flatnonzero(tiles.table["label"].to_numpy() == "adenocarcinoma")[1])
    sheet = draw_ladders(
        tiles.read(chosen), [OPERATIONS[name] for name in SHOWN], name="a tile of the phantom", mpp=spec.mpp
    )
    return Image.open(io.BytesIO(sheet)).convert("RGB")


def draw_stains() -> dict[str, Image.Image]:
    """Draw `stain show` of a phantom tile, and what four pairs of axes of the stain manifold do to it."""
    spec = PhantomSpec(sites=1, patients=2, slides=1, tiles_per_site=20, tile_px=192)
    tiles = PhantomTiles(spec)
    slides = tiles.table["slide"].tolist()
    chosen = int(np.flatnonzero(tiles.table["label"].to_numpy() == "adenocarcinoma")[1])
    slide = [tiles.read(row) for row, name in enumerate(slides) if name == slides[chosen]]
    fit = fit_stains(slide)
    shown = Image.open(io.BytesIO(draw_stain(tiles.read(chosen), fit, name="a tile of the phantom", whose="its slide")))
    manifold, step = StainManifold(fit), TILE_PX // 2 + GAP_PX
    wide, high = 5 * step + 50, 5 * step + 60
    sheet = Image.new("RGB", (2 * wide, 2 * high), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (across, down) in enumerate(AXIS_PAIRS):
        left, top = number % 2 * wide + 20, number // 2 * high
        grid = manifold.grid(tiles.read(chosen), down, across, mpp=spec.mpp)
        pen.text((left, top + 4), f"across: {across}", fill="#1c2330", font=font)
        pen.text((left, top + 22), f"down: {down}", fill="#1c2330", font=font)
        for row, line in enumerate(grid.tiles):
            for column, tile in enumerate(line):
                small = Image.fromarray(tile).resize((TILE_PX // 2, TILE_PX // 2), Image.Resampling.LANCZOS)
                sheet.paste(small, (left + column * step, top + 44 + row * step))
    return {"stain.png": shown.convert("RGB"), "manifold.png": sheet}


def save_small(picture: Image.Image, path: Path) -> int:
    """Save as a palette PNG with as many colours as fit into the size; return the bytes."""
    for colours in (256, 192, 128, 96, 64, 48, 32):
        few = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(path, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            break
    else:
        raise SystemExit(f"{path} does not get below {MOST_BYTES} bytes: show less of it")
    return path.stat().st_size


if __name__ == "__main__":
    main()
