"""`histolatent explore`: maps and their trust, ways, directions, mixtures, generative models."""

import typer

from . import maps, middle, models, moves, walk

app = typer.Typer(
    help="Move in a latent space, and see how far to believe it: maps, ways, directions, transport, decoded tiles.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", epilog=models.TRAIN_EXAMPLE)(models.train)
app.command("sample", epilog=models.SAMPLE_EXAMPLE)(models.sample)
app.command("dictionary", epilog=models.DICTIONARY_EXAMPLE)(models.dictionary)
app.command("map", epilog=maps.MAP_EXAMPLE)(maps.make)
app.command("trust", epilog=maps.TRUST_EXAMPLE)(maps.trust)
app.command("island", epilog=maps.ISLAND_EXAMPLE)(maps.island)
app.command("place", epilog=maps.PLACE_EXAMPLE)(maps.place)
app.command("export", epilog=maps.EXPORT_EXAMPLE)(maps.export)
app.command("walk", epilog=walk.EXAMPLE)(walk.walk)
app.command("path", epilog=moves.PATH_EXAMPLE)(moves.path)
app.command("direction", epilog=moves.DIRECTION_EXAMPLE)(moves.direction)
app.command("chain", epilog=moves.CHAIN_EXAMPLE)(moves.chain)
app.command("barycentre", epilog=middle.EXAMPLE)(middle.barycentre)
