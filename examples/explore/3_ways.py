# %% [markdown]
# # What lies between two tiles
#
# The straight line between two vectors is one way of many. It leads nearer to the mean of all tiles, where pictures wash
# out. The arc about the mean keeps its distance from it, and may lie where tiles are sparse. Other ways lead through
# tiles, or where the picture changes least. None is best: under each step stands how far to believe it.

# %%
import pandas as pd
from begin import movie, space

from histolatent.report.exploring import draw_rows, draw_way

here = space()
labels = here.obs["label"].astype(str)
first, last = (
    here.tiles[int((labels == name).argmax())]
    for name in sorted(labels.unique())[:2]
)
ways = {
    method: here[first].path(here[last], method=method, steps=9)
    for method in ("lerp", "slerp", "graph", "geodesic")
}
draw_rows(
    {method: way.decode() for method, way in ways.items()},
    heads=[f"{step / 8:.2f}" for step in range(9)],
    notes={
        method: [f"{value:.0%} lie denser" for value in way.to_frame()["sparser"]]
        for method, way in ways.items()
    },
)

# %% [markdown]
# `lerp` is the line, `slerp` the arc of a sphere, `graph` leads through neighbours of neighbours, `geodesic` is the
# way on which the decoded tile changes least. Under each tile stands the share of real tiles whose surroundings are
# denser. Near 100 % hardly any tile is there; near 0 % the place is nearer to tiles than they are to each other, as a
# mean of several is: look at how washed out it is.
#
# In numbers: how much longer than the line, how even, through how thin a place, and how far a decoded tile comes back
# from where it was decoded.

# %%
pd.DataFrame({method: way.score() for method, way in ways.items()}).round(3)

# %%
draw_way(ways["graph"].to_frame())

# %% [markdown]
# ## Without a decoder
#
# The real tiles nearest to each step tell the way, too, and are no invention.

# %%
ways["graph"].through_tiles()

# %% [markdown]
# ## As a movie

# %%
fine = here[first].path(here[last], method="slerp", steps=36)
shares = fine.to_frame()["along"]
movie(list(fine.decode()), [f"{share:.0%} of the way" for share in shares], "way")
