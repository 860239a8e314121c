# %% [markdown]
# # One algebra
#
# Points are moved, mixed and brought toward each other; what comes out is a point again, and remembers how it came
# about.

# %%
import numpy as np
import pandas as pd
from begin import space

from histolatent.report.exploring import draw_rows

here = space()
here = here.knowing(
    here.direction("tumour", name="tumour"), here.direction("grade", name="grade")
)
a, b, c = here.tiles[:: len(here.tiles) // 3][:3]
point = here[a].move("tumour", 1).toward(here[b], 0.3).move("grade", -1)
point

# %%
steps = [
    here[a],
    here[a].move("tumour", 1),
    here[a].move("tumour", 1).toward(here[b], 0.3),
    point,
    here.mix({a: 1, b: 1, c: 2}),
]
draw_rows(
    {"decoded": here.decode(np.stack([step.vector for step in steps]))},
    heads=["a tile", "tumour +1", "0.3 toward b", "grade -1", "a mix of three"],
    notes={
        "decoded": [f"{step.risk()['sparser']:.0%} lie denser" for step in steps]
    },
)

# %% [markdown]
# What is near, and how far to believe it:

# %%
point.nearest(3)[["tile", "distance", "label", "site"]]

# %%
pd.Series(point.risk())

# %% [markdown]
# ## Order
#
# Two moves along straight directions can change places. A move and a part of a way cannot: the way is shorter by
# then.

# %%
other = here[a].toward(here[b], 0.3).move("tumour", 1).move("grade", -1)
float(np.linalg.norm(other.vector - point.vector))
