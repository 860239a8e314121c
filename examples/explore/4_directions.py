# %% [markdown]
# # Directions, and what they are worth
#
# If tiles differ in a column, their vectors may differ in a direction. Moving along it shows what the encoder means
# by the column. A card says whether the direction is to be believed.

# %%
import textwrap
from dataclasses import replace

import numpy as np
import pandas as pd
from begin import movie, space, tiles

from histolatent.errors import InputError
from histolatent.explore.directions import (
    name_directions,
    principal_directions,
    side_effects,
)
from histolatent.explore.seen import seen_effects
from histolatent.report.exploring import draw_effects, draw_rows, in_words

here = space()
tumour = here.direction("tumour", confounders=["site"], positive="True")
print(textwrap.fill(in_words(tumour), 84))
pd.Series(vars(tumour.card))

# %% [markdown]
# Three tiles moved along it. 0 is the tile as it is, 1 the way from the mean of the one class to that of the other.

# %%
amounts = (-2, -1, 0, 1, 2)
rows = {
    name.replace("/", "\n", 1): here.decode(
        np.stack([here[name].move(tumour, amount).vector for amount in amounts])
    )
    for name in here.tiles[:: len(here.tiles) // 3][:3]
}
draw_rows(
    rows, heads=[f"{amount:+g}" if amount else "as it is" for amount in amounts]
)

# %%
amounts = [*np.linspace(-2, 2, 24), *np.linspace(2, -2, 24)[1:-1]]
sweep = [here[here.tiles[0]].move(tumour, amount).decode() for amount in amounts]
movie(sweep, [f"tumour {amount:+.1f}" for amount in amounts], "tumour")

# %% [markdown]
# How far to move until the class is read with a probability of .9:

# %%
tumour.amount_for(here[here.tiles[0]].vector, 0.9)

# %% [markdown]
# ## What else moves
#
# A direction of tissue may carry the site along. Each row is a move of 1, each column what is read of it then.

# %%
site = here.direction("site", positive="new-stain")
pair = [tumour, site]
draw_effects(side_effects(pair, here.vectors))

# %% [markdown]
# Taken out, it stays where it is:

# %%
alone = tumour.without(site)
draw_effects(side_effects([alone, site], here.vectors))

# %% [markdown]
# ## What the picture shows
#
# How large nuclei are is nowhere straight in a space of pixels, and the direction of their size hardly reads it. In the
# decoded tile it can be seen. So it is read there, and each tile is moved its own way: colours are held, and what else
# is asked for.

# %%
known = tiles().truth[["nuclear_area_um2", "nuclear_density_per_mm2"]]
there = replace(here, obs=here.obs.join(known))
straight = there.direction("nuclear_area_um2")
size, density = (there.seen(name) for name in known)
for each in (straight, size):
    print(textwrap.fill(in_words(each), 84))

# %%
larger = size.without(density)
rows = {
    name.replace("/", "\n", 1): there.decode(
        np.stack(
            [
                there[name].move(larger, amount * size.spread).vector
                for amount in amounts
            ]
        )
    )
    for name in here.tiles[:: len(here.tiles) // 4][:4]
}
draw_rows(
    rows,
    heads=[f"{amount:+g} sd" if amount else "as it is" for amount in amounts],
)

# %% [markdown]
# What came of it, as a reader sees it that did not lead the move. The first row is the straight direction.

# %%
draw_effects(
    seen_effects(
        [replace(straight, name="straight"), size, replace(larger, name="larger")],
        [size, density],
        there.vectors,
    )
)

# %% [markdown]
# ## What is refused
#
# Where a confounder tells the attribute, a direction of it would be one between sites.

# %%
try:
    here.direction("stain", positive="harris", confounders=["site"])
except InputError as error:
    print(textwrap.fill(str(error), 84))

# %% [markdown]
# ## Directions that nobody asked for
#
# The largest axes of the space, named by the column that goes with each most.

# %%
for found in name_directions(
    principal_directions(here.vectors, 6), here.vectors, here.obs
):
    print(found.name)
