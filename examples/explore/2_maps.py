# %% [markdown]
# # Maps, and how far to believe them
#
# A map puts tiles of a space with many dimensions into a plane. That cannot be done without breaking something. Each
# map here says under its picture how much of the neighbourhood it shows; a random layout is named beside it.
#
# The space is that of `toy:colour-histogram`: 112 numbers of a tile's colours.

# %%
from begin import FULL, colours

from histolatent.explore.graph import make_graph
from histolatent.explore.islands import judge_island
from histolatent.explore.maps import align, compare_maps, make_map
from histolatent.explore.trust import judge_map
from histolatent.report.exploring import draw_faithfulness, draw_maps, draw_points

here = colours()
graph = make_graph(here.vectors)
methods = ("pca", "tsne", "umap", "pacmap") if FULL else ("pca", "tsne")
maps = align(
    [
        make_map(here.vectors, method, tiles=here.tiles, graph=graph)
        for method in methods
    ]
)
columns = {name: here.obs[name].tolist() for name in ("label", "site")}
trusts = [
    judge_map(made, columns=columns, graph=graph, seeds=1, null=False)
    for made in maps
]
draw_maps(maps, trusts, here.obs["label"])

# %% [markdown]
# ## Which map keeps what
#
# One set of figures for all, each with its interval; the stroke is what a random layout has.

# %%
draw_faithfulness(
    [
        (made.method, trust.faithfulness)
        for made, trust in zip(maps, trusts, strict=True)
    ]
)

# %% [markdown]
# ## What the picture added
#
# Purity is the share of a tile's 15 nearest that have its label, or its site. Where the map's is above the space's,
# the picture shows tiles more apart than they are.

# %%
trusts[1].to_frame().query("metric.str.startswith('purity')").round(3)

# %% [markdown]
# ## Which tiles to believe
#
# The same map by other seeds, and of the same numbers without structure: a tile whose neighbours change, or that is
# placed no better than there, says nothing by its place. (t-SNE starts from the same plane under every seed, so that its
# seeds nearly always agree.)

# %%
one = maps[1]
trust = judge_map(one, seeds=2, null=True)
print(trust.caption())
draw_points(one, trust)

# %% [markdown]
# ## Is that an island?
#
# Tiles of one label stand together in the picture. Whether there is a gap around them in the space is another
# question.

# %%
print(
    judge_island(
        one.vectors,
        (here.obs["label"] == here.obs["label"].iloc[0]).to_numpy(),
    )
)

# %% [markdown]
# ## Where maps agree
#
# Neighbours that two maps share, and how far apart they are once turned onto each other.

# %%
compare_maps(maps).round(3)
