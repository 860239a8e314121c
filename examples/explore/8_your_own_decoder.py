# %% [markdown]
# # A decoder of your own
#
# Whatever turns tiles into vectors and back can be explored: two functions are enough. Here they are the first
# principal components of pixels, which is as simple as it gets; a diffusion model's autoencoder goes the same way.

# %%
import cv2
import numpy as np
from begin import tiles
from sklearn.decomposition import PCA

from histolatent.explore.decoding import Adapter
from histolatent.explore.space import LatentSpace
from histolatent.report.exploring import draw_rows

cohort, side = tiles(), 32
pixels = np.stack(
    [
        cv2.resize(cohort.read(row), (side, side), interpolation=cv2.INTER_AREA)
        for row in range(len(cohort.table))
    ]
)
fitted = PCA(24, random_state=0).fit(pixels.reshape(len(pixels), -1) / 255)
own = Adapter(
    24,
    encodes=lambda shown: fitted.transform(shown.reshape(len(shown), -1) / 255),
    decodes=lambda z: (
        (fitted.inverse_transform(z).clip(0, 1) * 255)
        .astype(np.uint8)
        .reshape(-1, side, side, 3)
    ),
)
here = LatentSpace(
    own.encode(pixels), tuple(cohort.table.index), own, cohort, cohort.table
)
here

# %%
first, last = here.tiles[0], here.tiles[-1]
way = here[first].path(here[last], method="slerp", steps=7)
draw_rows(
    {"decoded": way.decode()},
    notes={
        "decoded": [
            f"comes back {value:.2f} off" for value in way.to_frame()["cycle"]
        ]
    },
)

# %% [markdown]
# Decoding and encoding again leads back to the same place: components are exact where pixels are not cut off.
