# %% [markdown]
# # Erase what must not be there
#
# The space is that of `toy:colour-histogram`: 112 numbers of a tile's colours.
#
# A site that can be read from vectors is used by whatever is trained on them. LEACE takes out what a linear probe
# reads of it, by the smallest change there is.

# %%
import numpy as np
import pandas as pd
from begin import colours

from histolatent.explore.erasure import fit_leace, measure_leak
from histolatent.probes import FittedProbe, fit_probe
from histolatent.stats import whole_value

here = colours()
sites = np.unique(here.obs["site"].astype(str), return_inverse=True)[1]
erase = fit_leace(here.vectors, sites)
print(f"{len(erase.gains)} directions of {here.vectors.shape[1]} are taken out")

# %% [markdown]
# ## What a probe reads, before and after
#
# Each probe is trained anew, and reads tiles of patients that it was not trained on. Each patient is of one site here.

# %%
patients = np.unique(here.obs["patient"].astype(str), return_inverse=True)[1]


def read(vectors: np.ndarray, column: str) -> float:
    """Return the balanced accuracy of a fresh probe of a column."""
    fitted = fit_probe(vectors, here.obs[column].astype(str).tolist(), patients)
    assert isinstance(fitted, FittedProbe)
    return whole_value(fitted.read(vectors).accuracy(), len(vectors))


spaces = {"as they are": here.vectors, "site erased": erase.apply(here.vectors)}
pd.DataFrame(
    {
        name: {column: read(vectors, column) for column in ("site", "label")}
        for name, vectors in spaces.items()
    }
).round(2)

# %% [markdown]
# Chance is a third. The label should stay about where it was: only what goes with the site is gone.
#
# ## What is still there
#
# Erasure is made against lines. A forest of trees may read what is left, and so may whatever is trained on the vectors.
# Here neither the probes nor the erasure have seen the patients that they are asked about.

# %%
measure_leak(here.vectors, sites, patients).round(2)
