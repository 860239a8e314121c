# %% [markdown]
# # A dictionary of a space
#
# A sparse autoencoder takes every vector apart into a few of many atoms. Each atom is a direction; what it stands
# for, the tiles with most of it say. The space is that of `toy:colour-histogram`: 112 numbers of a tile's colours.

# %%
import pandas as pd
from begin import FULL, colours

from histolatent.explore.dictionary import fit_dictionary
from histolatent.explore.directions import goes_with
from histolatent.report.exploring import draw_rows

here = colours()
made = fit_dictionary(
    here.vectors, atoms=128 if FULL else 32, k=6, steps=2000 if FULL else 300
)
made

# %% [markdown]
# The atoms that most tiles use, named by the column that goes with them, if any does:

# %%
atoms = made.to_frame(here.vectors, here.obs).head()
draw_rows(
    {
        f"atom {row.atom}\n{row.column} {row.association:+.2f}": [
            here.show(here.tiles[place]) for place in row.strongest
        ]
        for row in atoms.itertuples()
    }
)

# %% [markdown]
# An atom is a direction like any other: it reads vectors, and moves them. How closely what it reads goes with what is
# known of the tiles:

# %%
pd.DataFrame(
    {
        direction.name.partition(":")[0]: {
            column: goes_with(direction.value(here.vectors), here.obs[column])
            for column in ("label", "tumour", "grade", "site")
        }
        for direction in made.directions(here.vectors, here.obs)[:5]
    }
).round(2)
