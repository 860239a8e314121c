# %% [markdown]
# # From one group to another
#
# The means of two groups are no tiles, and the line between them is no tissue. Optimal transport pairs the tiles of
# the one with tiles of the other, so that all of them together move as little as they can, and each goes its own way.

# %%
import numpy as np
from begin import space

from histolatent.explore.between import mix_stains, show_transport
from histolatent.explore.transport import compare_sets, transport
from histolatent.report.exploring import draw_rows

here = space()
names = here.obs["tumour"].astype(str)
sets = [here.vectors[(names == value).to_numpy()] for value in ("False", "True")]
plan = transport(*sets)
at = np.linspace(0, 1, 7)
line = np.stack(
    [(1 - t) * sets[0].mean(axis=0) + t * sets[1].mean(axis=0) for t in at]
)
carried = show_transport(plan, at)
ends = here.decode(carried[[0, -1]])
draw_rows(
    {
        "line of\nmeans": here.decode(line),
        "transport,\none tile": here.decode(carried),
        "stain,\nin pixels": mix_stains(ends[0], ends[1], at),
    },
    heads=[f"{t:.2f}" for t in at],
)

# %% [markdown]
# Which tiles move most:

# %%
plan.moves().head()

# %% [markdown]
# ## Is the distance more than chance?
#
# Two halves of one group, of other patients each, are apart, too. `between` is of halves of both groups: what is not
# above `floor_p95` cannot be told from chance.

# %%
patients = np.unique(here.obs["patient"].astype(str), return_inverse=True)[1]
found = compare_sets(
    here.vectors,
    names.tolist(),
    groups=patients,
    labels=here.obs["label"].tolist(),
)
columns = ["first", "second", "distance", "between", "floor", "floor_p95"]
found[[*columns, "above_floor"]].round(4)
