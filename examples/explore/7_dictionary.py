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
found = made.directions(here.vectors, here.obs)[:5]
rows = {}
for direction in found:
    atom = int(direction.name.split()[1].rstrip(":"))
    strongest = made.strongest(here.vectors, atom, 8)["tile"]
    rows[direction.name.replace(": ", "\n")] = [
        here.show(here.tiles[row]) for row in strongest
    ]
draw_rows(rows)

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
        for direction in found
    }
).round(2)
