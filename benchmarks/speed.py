"""The default network at work: tiles a second from JPEG files to vectors, and steps of training with states rendered.

Inference is end to end: files of 224 px are read, decoded, brought to the size that an encoder takes, embedded and
stored, by as many workers as a command takes: by the encoder of the preset `demo` (96 px), and by its network on whole
tiles.
Training is the preset `demo` from tiles to encoder; then its loop without checks, beside it the same step without
reading and rendering, and a step of lightly's Barlow Twins, where lightly is installed.
"""

import contextlib
import tempfile
import time
from pathlib import Path

import torch
from _bench import Bench, start
from PIL import Image

from histolatent import PhantomSpec, PhantomTiles, open_tiles
from histolatent.compact.backbones import finished, make_backbone
from histolatent.compact.plan import CompactionPlan
from histolatent.compact.prepared import prepare
from histolatent.compact.run import compact_encoder
from histolatent.compact.training import Networks, Step, read_batches, run_step
from histolatent.encoders import Encoder
from histolatent.encoders.embed import embed_views
from histolatent.images import cores, default_workers
from histolatent.training.processes import make_fabric

#: Of the files, so many are of different tiles.
TILES, DRAWN, PIXELS, STEPS = 2000, 200, 224, 60


def main() -> None:
    """Measure and write `results/speed.json`."""
    bench = start("speed", __doc__ or "")
    repeats = 5 if bench.mode == "full" else 3
    with tempfile.TemporaryDirectory() as folder:
        trained = check_demo(bench, Path(folder))
        check_inference(bench, trained, Path(folder), repeats)
        check_training(bench, Path(folder))
    bench.finish()


def check_demo(bench: Bench, folder: Path) -> Encoder:
    """Time the preset `demo` on the source of the phantom, reading, checks and the last map included."""
    source, plan = open_tiles("phantom:sites=1"), CompactionPlan.read("demo")
    clock = time.perf_counter()
    made = compact_encoder(source, plan, folder / "demo", workers=max(1, cores() - 1))
    taken = time.perf_counter() - clock
    bench.check("seconds_to_train_demo", taken, "<= 180", f"{len(source.table)} tiles, {cores()} cores")
    return made.encoder


def check_inference(bench: Bench, trained: Encoder, folder: Path, repeats: int) -> None:
    """Embed JPEG files with the trained encoder, and with its network on whole tiles."""
    cohort = PhantomTiles(PhantomSpec(sites=1, tile_px=PIXELS, tiles_per_site=DRAWN))
    files = folder / "tiles"
    files.mkdir()
    for i in range(DRAWN):
        tile = Image.fromarray(cohort.read(i))
        for copy in range(i, TILES, DRAWN):
            tile.save(files / f"{copy:04d}.jpg", quality=90)
    source = open_tiles(files)
    whole = finished(make_backbone("conv-small", PIXELS, 0).encoder, name="conv-small", source="", notes="")
    for name, encoder, target in (("", trained, ">= 150"), ("_of_whole_tiles", whole, None)):
        found = []
        for turn in range(repeats + 1):
            embedded = embed_views(source, [encoder], [folder / f"e{turn}{name}"], workers=default_workers())
            found.append(TILES / embedded.seconds.total)
        bench.measured[f"tiles_per_s{name}"] = found[1:]
        said = f"{encoder.card.preprocessing.input_px or PIXELS} px in the network; {PIXELS} px JPEG to vectors"
        bench.check(
            f"inference_tiles_per_s{name}",
            sorted(found[1:])[repeats // 2],
            target,
            f"{said}, {cores()} cores, start of workers included",
        )


def check_training(bench: Bench, folder: Path) -> None:
    """Time steps with reading and rendering, the same steps on batches that are there, and lightly's."""
    plan = CompactionPlan.read("demo")
    workers = max(1, cores() - 1)
    torch.set_num_threads(max(1, cores() - workers))
    whole, bare = time_steps(plan, folder, workers)
    setting = f"{plan.training.batch_size} tiles of {plan.tile_px} px under {plan.states.views} states a step"
    bench.check("training_images_per_s", whole, None, f"{setting}, rendered by {workers} worker")
    bench.check("training_share_of_bare_steps", whole / bare, ">= 0.9", "the same steps, nothing read or rendered")
    alike = plan.changed(**{"objective.loss": "barlow", "objective.reconstruction": 0.0})
    ours, _ = time_steps(alike, folder, workers)
    for name, threads in (("", torch.get_num_threads()), ("_on_all_cores", cores())):
        torch.set_num_threads(threads)
        theirs = time_lightly(alike)
        reason = f"its Barlow Twins on a batch that is there, {threads} of {cores()} cores; ours reads and renders"
        bench.check(
            f"training_times_lightly{name}",
            theirs and ours / theirs,
            None if name else ">= 0.95",
            reason if theirs else "lightly is not there: pip install lightly",
        )


def time_steps(plan: CompactionPlan, folder: Path, workers: int) -> tuple[float, float]:
    """Return images a second of steps with reading and rendering, and on a batch that is there."""
    prepared = prepare(open_tiles("phantom:sites=1"), plan, folder / "kept", workers=workers)
    fabric = make_fabric("cpu", plan.training.precision)
    networks = Networks(make_backbone(plan.backbone, prepared.views.tile_px, 0), plan)
    wrapped, optimizer = fabric.setup(
        networks, torch.optim.AdamW(networks.parameters(), lr=plan.training.learning_rate, fused=True)
    )

    def step(batch: Step, at: int) -> None:
        run_step(
            wrapped,
            optimizer,
            batch,
            plan,
            at=at,
            backward=fabric.backward,
            no_sync=lambda: fabric.no_backward_sync(wrapped),
        )

    images = STEPS * plan.training.batch_size * plan.states.views
    with contextlib.closing(read_batches(prepared.source, prepared.rows, prepared.views, workers=workers)) as batches:
        ready = Step.of(next(batches), prepared.manifold)
        step(ready, 0)
        clock = time.perf_counter()
        for at in range(STEPS):
            step(Step.of(next(batches), prepared.manifold), at)
        whole = images / (time.perf_counter() - clock)
    clock = time.perf_counter()
    for at in range(STEPS):
        step(ready, at)
    return whole, images / (time.perf_counter() - clock)


def time_lightly(plan: CompactionPlan) -> float | None:
    """Return images a second of lightly's projection head and loss on the same network, batch and precision."""
    try:
        from lightly.loss import BarlowTwinsLoss
        from lightly.models.modules import BarlowTwinsProjectionHead
    except ImportError:
        return None
    side = plan.tile_px or PIXELS
    network = make_backbone(plan.backbone, side, 0).encoder.model.train()
    head = BarlowTwinsProjectionHead(network.dim, plan.projector, plan.projector)
    model = torch.nn.Sequential(network, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), head)
    fabric, compare = make_fabric("cpu", plan.training.precision), BarlowTwinsLoss()
    wrapped, optimizer = fabric.setup(
        model, torch.optim.AdamW(model.parameters(), lr=plan.training.learning_rate, fused=True)
    )
    shape = (plan.training.batch_size, 3, side, side)
    batches = [torch.rand(shape).contiguous(memory_format=torch.channels_last) for _ in range(plan.states.views)]

    def step() -> None:
        optimizer.zero_grad()
        fabric.backward(compare(*(wrapped(batch).float() for batch in batches)))
        optimizer.step()

    step()
    clock = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * len(batches) * plan.training.batch_size / (time.perf_counter() - clock)


if __name__ == "__main__":
    main()
