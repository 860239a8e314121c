"""Training an encoder on real tiles of one source, read as virtual sites render tiles that were kept out.

Tiles of oral cancer and osteosarcoma (HISTOLATENT_DATA). A quarter of the patients, or of the tiles where no patient is
named, is kept out of training; virtual sites mix colours polynomially, bend the tone curve, blur and add noise,
outside the family of the states. The preset `demo` stands beside the same plan without states, and on oral cancer
beside other strengths of the states.

`--quick` keeps out the first quarter of oral cancer (about fifteen minutes on two cores), `--full` the first and then
the second of both (about an hour and a half). Cells are kept in the folder that HISTOLATENT_CELLS names, and are not
trained again.
"""

import tempfile
from pathlib import Path

from _bench import start
from _lmc import PLAIN, Part, run_part
from _real import real_tiles

STRENGTHS = ("strength 0.5", "strength 1.5", "strength 2")


def main() -> None:
    """Measure and write `results/lmc_real.json`."""
    bench = start("lmc_real", __doc__ or "")
    cohorts = real_tiles()
    if not cohorts:
        return
    parts = [Part("oral_cancer", cohorts["oral_cancer"], (PLAIN,), 1, 0.5)]
    if bench.mode == "full":
        parts = [
            Part("oral_cancer", cohorts["oral_cancer"], (PLAIN, *STRENGTHS), 2, 0.5),
            Part("osteosarcoma", cohorts["osteosarcoma"], (PLAIN,), 2, 0.5),
        ]
    with tempfile.TemporaryDirectory() as folder:
        for part in parts:
            run_part(bench, part, Path(folder))
    bench.finish()


if __name__ == "__main__":
    main()
