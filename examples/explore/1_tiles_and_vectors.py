# %% [markdown]
# # From tiles to vectors and back
#
# A variational autoencoder learns two things at once: to say of a tile in a few numbers what it is, and to draw the
# tile again from these numbers. Most pages of this gallery move about among them.

# %%
import pandas as pd
from begin import model, space, tiles

from histolatent.encoders import encoder
from histolatent.explore.generative.quality import (
    judge_reconstruction,
    judge_samples,
)
from histolatent.explore.generative.sampling import fit_density, sample_prior
from histolatent.report.exploring import draw_rows

vae, cohort = model(), tiles()
vae

# %% [markdown]
# ## What comes back
#
# Tiles that were kept out of training, and what is drawn from their numbers. Broad structure comes back first; what
# needs more numbers than there are comes back as a mean, which looks like blur.

# %%
shown = [cohort.table.index.get_loc(name) for name in vae.card["shown"][:8]]
real = vae.prepared([cohort.read(row) for row in shown])
back = vae.decode(vae.encode(real))
draw_rows({"tiles": real, "come back": back})

# %% [markdown]
# Two numbers say how near. `blurred` is the SSIM that the mean of all tiles has with each of them: a model that does
# not beat it has learned nothing.

# %%
pd.Series(vars(judge_reconstruction(real, back))).round(3)

# %% [markdown]
# ## Tiles that never were
#
# The prior is a normal distribution that training pulls vectors toward. A mixture fitted to the vectors of real tiles
# is nearer to where tiles lie.

# %%
vectors = space().vectors
prior = vae.decode(sample_prior(8, vae.dim))
density = fit_density(vectors)
drawn = vae.decode(density.sample(8))
draw_rows({"prior": prior, f"density,\n{density.components} parts": drawn})

# %% [markdown]
# How far drawn tiles are from real ones as a set, seen by an encoder that has nothing to do with the model: the
# Fréchet distance, beside its floor, which is what two halves of the real tiles are apart.

# %%
step = max(1, len(cohort.table) // 120)
some = vae.prepared([cohort.read(row) for row in range(0, len(cohort.table), step)])
found = judge_samples(
    some, vae.decode(density.sample(len(some) // 2)), encoder("toy:od-moments")
)
pd.Series(vars(found))
