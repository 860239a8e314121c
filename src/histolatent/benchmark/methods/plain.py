"""Nothing, and stain augmentation: the network trained on tiles as they are, or under random changes of colour."""

from ...compact.augmentation import fit_augmentation
from ...compact.plan import CompactionPlan
from ...encoders import Encoder
from ...images import TileSource
from ..ablate import VARIANTS
from .base import Base, EncoderMethod, Method, Network, Work

AS_IT_IS = "none"


def train_network(source: TileSource, plan: CompactionPlan, work: Work) -> Encoder:
    """Train a network on the source; what is kept for resuming is removed when it is done."""
    from ...compact.run import compact_encoder
    from ...outputs import remove

    folder = work.folder / "training"
    made = compact_encoder(source, plan, folder, seed=work.seed, device=work.device, workers=work.workers)
    remove(folder)
    return made.encoder


def fit_plain(source: TileSource, base: Base, work: Work) -> Network:
    """Return the frozen encoder, or train without states."""
    return Network(base.encoder or train_network(source, base.plain, work))


def _augmented(kind: str) -> EncoderMethod:
    def fit(source: TileSource, base: Base, work: Work) -> Network:
        if base.encoder is not None:
            return Network(base.encoder, fit_augmentation(kind, source, seed=work.seed, workers=work.workers))
        return Network(train_network(source, base.plan.changed(**VARIANTS[kind]), work))

    return fit


_TELLEZ = "Tellez et al. 2019, Medical Image Analysis 58:101544"
METHODS = (
    Method(AS_IT_IS, "encoder", "tiles as they are", fit_plain),
    Method("hed-light", "encoder", "augmentation: HED jitter, 0.05", _augmented("hed-light"), _TELLEZ),
    Method("hed-strong", "encoder", "augmentation: HED jitter, 0.2", _augmented("hed-strong"), _TELLEZ),
    Method(
        "randstainna",
        "encoder",
        "augmentation: virtual templates of colour statistics",
        _augmented("randstainna"),
        "Shen et al. 2022, MICCAI, arXiv 2206.12694",
    ),
)
