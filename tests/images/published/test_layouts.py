"""Each cohort from files in its published layout, over a server, to tiles that `open_tiles` opens."""

import gzip
import io
import json

import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from histolatent.audit.plan import find_groups
from histolatent.errors import InputError
from histolatent.images import decode, open_tiles
from histolatent.images.published import fetch_cohort, verify_cohort

from .conftest import encoded, tile, zipped
from .test_unpack import tarred

WILDS_COLUMNS = ["", "patient", "node", "x_coord", "y_coord", "tumor", "slide", "center", "split"]
WILDS_ROWS = [
    (0, "004", 4, 3328, 21792, 1, 0, 0, 0),
    (1, "004", 4, 3200, 22272, 0, 0, 0, 1),
    (2, "024", 1, 4000, 5000, 1, 10, 1, 0),
    (3, "048", 3, 4032, 5032, 0, 24, 2, 1),
]


def csv(columns, rows, separator=","):
    return "\n".join(separator.join(map(str, row)) for row in [columns, *rows]).encode() + b"\n"


def wilds(root="", rows=WILDS_ROWS):
    members = {f"{root}metadata.csv": csv(WILDS_COLUMNS, rows), f"{root}RELEASE_v1.0.txt": b""}
    for number, (_, patient, node, x, y, *_rest) in enumerate(WILDS_ROWS):
        slide = f"patient_{patient}_node_{node}"
        members[f"{root}patches/{slide}/patch_{slide}_x_{x}_y_{y}.png"] = encoded(tile(number, 96))
    return {"camelyon17_v1.0.tar.gz": tarred(members)}


MIDOG_TABLE = csv(
    ("Slide", "Dataset", "Tumor", "Scanner", "Origin", "Species"),
    [
        (1, "train", "human breast cancer", "Hamammatsu XR", "UMC Utrecht", "Human"),
        (2, "test", "human breast cancer", "Aperio CS2", "UMC Utrecht", "Human"),
        (505, "train", "human melanoma", "Hamamatsu XR", "UMC Utrecht", "Human"),
    ],
    ";",
)
MIDOG_BOXES = {
    "info": {},
    "licenses": [],
    "images": [{"license": 1, "file_name": f"{n:03d}.tiff", "id": n, "width": 60, "height": 40} for n in (1, 2, 505)],
    "categories": [{"id": 1, "name": "mitotic figure"}, {"id": 2, "name": "not mitotic figure"}],
    "annotations": [
        {"bbox": [10, 20, 60, 70], "category_id": 1, "image_id": 1, "labels": [1, 1], "id": 1},
        {"bbox": [0.5, 0, 50.5, 50], "category_id": 2, "image_id": 505, "labels": [2, 2], "id": 2},
        {"bbox": [1, 1, 51, 51], "category_id": 2, "image_id": 2, "labels": [2, 2], "id": 3},
    ],
}


def midog(boxes=MIDOG_BOXES, images=(1, 505)):
    return {
        "MIDOG++.json": json.dumps(boxes).encode(),
        "datasets_xvalidation.csv": MIDOG_TABLE,
        **{f"images/{n:03d}.tiff": encoded(tile(n % 7, 40), ".tiff") for n in images},
    }


def npz(**arrays):
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def pathmnist(labels=((8, 0), (3,), (5,))):
    arrays, number = {}, 0
    for split, values in zip(("train", "val", "test"), labels, strict=True):
        arrays[f"{split}_images"] = np.stack([tile(number + i, 28) for i in range(len(values))])
        arrays[f"{split}_labels"] = np.array(values, np.uint8)[:, None]
        number += len(values)
    return {"pathmnist.npz": npz(**arrays)}


def h5(**datasets):
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return stream.getvalue()


def pcam(split="train", count=3, metas=None):
    prefix = f"camelyonpatch_level_2_split_{split}_"
    rows = [(i, 100 + i, 200 + i, "True", i % 2 == 1, f"camelyon16_train_tumor_{i:03d}") for i in range(metas or count)]
    return {
        f"{prefix}x.h5.gz": gzip.compress(h5(x=np.stack([tile(i, 96) for i in range(count)]))),
        f"{prefix}y.h5.gz": gzip.compress(h5(y=(np.arange(count) % 2).astype(np.uint8).reshape(-1, 1, 1, 1))),
        f"{prefix}meta.csv": csv(("", "coord_y", "coord_x", "tumor_patch", "center_tumor_patch", "wsi"), rows),
    }


def camelyon16(slides=("normal_001", "tumor_001", "test_002"), classes=("negative", "macro", "micro")):
    files = {
        "evaluation/reference.csv": csv(
            ("image", "class", "type", "center"),
            [
                (f"{slide}.tif", kind, "None", i % 2)
                for i, (slide, kind) in enumerate(zip(slides, classes, strict=True))
            ],
        ),
        "README.md": b"",
        "masks/tumor_001_mask.tif": b"mask",
        "annotations/tumor_001.xml": b"<ASAP_Annotations><Annotations/></ASAP_Annotations>",
    }
    return files | {f"images/{slide}.tif": encoded(tile(i, 64), ".tif") for i, slide in enumerate(slides)}


def test_wilds_has_hospitals_patients_and_places_of_level_0(fetched):
    out = fetched("camelyon17-wilds", wilds())
    tiles = open_tiles(out)
    assert list(tiles.table["label"]) == ["tumor", "normal", "tumor", "normal"]
    assert list(tiles.table["site"]) == ["hospital 0", "hospital 0", "hospital 1", "hospital 2"]
    assert list(tiles.table["official_split"]) == ["train", "id_val", "val", "test"]
    assert find_groups(tiles.table).by == "patient"  # which raises where a split tears a patient apart
    assert list(tiles.table["patient"]) == ["patient_004", "patient_004", "patient_024", "patient_048"]
    assert tiles.table["slide"].iloc[0] == "patient_004_node_4"
    assert (tiles.table["x"].iloc[0], tiles.table["y"].iloc[3]) == ((3328 - 32) * 4, (5032 - 32) * 4)
    for number in range(4):
        assert (tiles.read(number) == tile(number, 96)).all()
    assert verify_cohort(out).ok
    assert not out.with_name("cohort.unfinished").exists()


def test_wilds_in_a_folder_of_its_own(fetched):
    assert len(open_tiles(fetched("camelyon17-wilds", wilds("camelyon17_v1.0/"))).table) == 4


def test_midog_has_domains_and_objects(fetched):
    out = fetched("midog-plus-plus", midog())
    tiles = open_tiles(out)
    assert list(tiles.table.index) == ["001", "505"]
    assert list(tiles.table["scanner"]) == ["Hamamatsu XR"] * 2  # spelt in two ways
    assert list(tiles.table["mpp"]) == [0.23] * 2
    assert list(tiles.table["label"]) == ["human breast cancer", "human melanoma"]
    assert list(tiles.table["site"]) == ["UMC Utrecht"] * 2
    assert tiles.table["domain"].iloc[1] == "human melanoma, Hamamatsu XR, UMC Utrecht"
    objects = pd.read_csv(out / "objects.csv", dtype={"tile": str})
    assert objects.to_dict("records") == [
        {"tile": "001", "x": 35.0, "y": 45.0, "kind": "mitotic figure"},
        {"tile": "505", "x": 25.5, "y": 25.0, "kind": "imposter"},
    ]
    assert tiles.read(0).shape == (40, 40, 3)


def test_camelyon16_has_slides_sites_and_outlines(fetched):
    out = fetched("camelyon16", camelyon16())
    table = open_tiles(out).table
    assert list(table.index) == ["normal_001", "test_002", "tumor_001"]
    assert list(table["label"]) == ["normal", "tumor", "tumor"]
    assert list(table["site"]) == ["RUMC", "RUMC", "UMCU"]
    assert list(table["split"]) == ["train", "test", "train"]
    assert table["annotation"].dropna().to_dict() == {"tumor_001": "published/annotations/tumor_001.xml"}
    assert not (out / "published/masks").exists()


def test_nct_crc_leaves_the_normalised_tiles_until_they_are_named(fetched, site):
    members = {f"{{}}/{label}/{label}-AAA.tif": encoded(tile(i), ".tif") for i, label in enumerate(("ADI", "TUM"))}
    sets = ("NCT-CRC-HE-100K-NONORM", "CRC-VAL-HE-7K", "NCT-CRC-HE-100K")
    files = {
        f"{one}.zip": zipped({name.format(one): content for name, content in members.items()} | {f"{one}/x.txt": b""})
        for one in sets
    }
    out = fetched("nct-crc", files)
    table = open_tiles(out).table
    assert dict(zip(table["set"], table["split"], strict=True)) == {sets[0]: "train", sets[1]: "test"}
    assert list(table["label"]) == ["ADI", "TUM"] * 2
    assert set(table["mpp"]) == {0.5}
    fetch_cohort("nct-crc", out, only=["*"], mirror=site.url, accept_licence=True)
    assert set(open_tiles(out).table["set"]) == set(sets)
    assert verify_cohort(out).ok


def test_pcam_has_labels_and_slides_and_no_site(fetched):
    out = fetched("pcam", pcam())
    tiles = open_tiles(out)
    assert list(tiles.table["label"]) == ["normal", "tumor", "normal"]
    assert list(tiles.table["slide"]) == [f"camelyon16_train_tumor_{i:03d}" for i in range(3)]
    assert "site" not in tiles.table
    assert set(tiles.table["split"]) == {"train"}
    assert (tiles.read(2) == tile(2, 96)).all()


def test_pathmnist_has_the_names_of_its_labels(fetched):
    tiles = open_tiles(fetched("pathmnist", pathmnist()))
    assert list(tiles.table["split"]) == ["train", "train", "val", "test"]
    assert list(tiles.table["label"]) == [
        "colorectal adenocarcinoma epithelium",
        "adipose",
        "lymphocytes",
        "smooth muscle",
    ]
    for number in range(4):
        assert (tiles.read(number) == tile(number, 28)).all()


def test_tcga_ut_takes_the_finest_resolution_and_the_source_site(fetched):
    members = {
        f"Sarcoma/{level}/{slide}/0_{i}_521.jpg": encoded(tile(i, 48), ".jpg")
        for level in range(6)
        for i, slide in enumerate(("TCGA-DX-A1KU-01Z-00-DX1", "TCGA-3B-A9HI-01Z-00-DX2"))
    }
    table = open_tiles(fetched("tcga-ut", {"Sarcoma.zip": zipped(members)})).table
    assert sorted(zip(table["site"], table["patient"], strict=True)) == [
        ("3B", "TCGA-3B-A9HI"),
        ("DX", "TCGA-DX-A1KU"),
    ]
    assert set(table["label"]) == {"Sarcoma"}
    assert set(table["mpp"]) == {0.5}


def put_on_hub(site, cohort, commit, files, monkeypatch):
    """Serve files as the hub does: facts of paths, and the files at a commit."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", site.url)
    api = f"/api/datasets/{cohort.hub}"
    site.answers[api] = {"_id": "1", "id": cohort.hub, "sha": commit, "siblings": []}
    site.answers[f"{api}/paths-info/{commit}"] = [
        {"type": "file", "path": name, "size": len(content), "oid": "0" * 40} for name, content in files.items()
    ]
    for name, content in files.items():
        site.files[f"/datasets/{cohort.hub}/resolve/{commit}/{name}"] = content


def parquet(rows, drop=()):
    stream = io.BytesIO()
    frame = pa.Table.from_pylist([{key: value for key, value in row.items() if key not in drop} for row in rows])
    pq.write_table(frame, stream)
    return stream.getvalue()


PATHOROB_ROWS = [
    {
        "image": {"bytes": encoded(tile(i)), "path": None},
        "subset": "ID",
        "slide_id": slide,
        "patch_id": f"{i}_0",
        "biological_class": "tumor" if i else "normal",
        "medical_center": center,
    }
    for i, (slide, center) in enumerate([("test_035", "RUMC"), ("patient_017_node_2", "CWZ")])
]


def test_pathorob_comes_from_the_hub_at_its_commit(site, publish, tmp_path, monkeypatch):
    files = {"data/train-00000-of-00001.parquet": parquet(PATHOROB_ROWS)}
    cohort = publish("pathorob-camelyon", files)
    put_on_hub(site, cohort, cohort.commit, files, monkeypatch)
    card = fetch_cohort("pathorob-camelyon", tmp_path / "cohort", accept_licence=True)
    assert card.commit == cohort.commit
    assert list(card.files) == ["data/train-00000-of-00001.parquet"]
    assert "sha256" in card.files["data/train-00000-of-00001.parquet"].published
    tiles = open_tiles(tmp_path / "cohort")
    assert list(tiles.table["site"]) == ["RUMC", "CWZ"]
    assert list(tiles.table["label"]) == ["normal", "tumor"]
    assert list(tiles.table["patient"]) == ["test_035", "patient_017"]
    assert (tiles.read(1) == tile(1)).all()
    assert verify_cohort(tmp_path / "cohort").ok
    assert not [file for file in (tmp_path / "cohort").rglob("*") if file.name.startswith(".")]


def test_plism_pairs_tiles_by_location_and_notes_the_commit(site, publish, tmp_path, monkeypatch):
    keys = [f"tile_16_{column}_129" for column in (103, 104)]
    files = {
        f"{name}_to_GMH_S60.tif.h5": h5(**{key: tile(10 * i + j) for j, key in enumerate(keys)})
        for i, name in enumerate(("GMH_AT2", "GMH_S60", "HRH_P"))
    }
    cohort = publish("plism", files)
    commit = "f" * 40
    put_on_hub(site, cohort, commit, files, monkeypatch)
    out = tmp_path / "cohort"
    card = fetch_cohort("plism", out, only=["GMH_*"], accept_licence=True)
    assert card.commit == commit
    tiles = open_tiles(out)
    assert list(tiles.table["scanner"]) == ["AT2", "AT2", "S60", "S60"]
    assert set(tiles.table["stain"]) == {"GMH"}
    assert list(tiles.table["location"]) == keys * 2
    assert (tiles.read(3) == tile(11)).all()
    # What is added later comes from the commit of the card, not from where the branch is by then.
    site.answers[f"/api/datasets/{cohort.hub}"] = {"_id": "1", "id": cohort.hub, "sha": "e" * 40, "siblings": []}
    assert fetch_cohort("plism", out, accept_licence=True).commit == commit
    assert len(open_tiles(out).table) == 6


def test_what_the_hub_refuses_is_said(site, publish, tmp_path, monkeypatch):
    files = {"data/train-00000-of-00001.parquet": parquet(PATHOROB_ROWS)}
    cohort = publish("pathorob-camelyon", files)
    put_on_hub(site, cohort, cohort.commit, files, monkeypatch)
    site.answers[f"/api/datasets/{cohort.hub}/paths-info/{cohort.commit}"] = []
    with pytest.raises(InputError, match="no such file"):
        fetch_cohort("pathorob-camelyon", tmp_path / "cohort", accept_licence=True)
    put_on_hub(site, cohort, cohort.commit, files, monkeypatch)
    site.statuses[f"/datasets/{cohort.hub}/resolve/{cohort.commit}/data/train-00000-of-00001.parquet"] = [404] * 9
    with pytest.raises(InputError, match=r"PathoROB-camelyon has no such commit or file|cannot be reached"):
        fetch_cohort("pathorob-camelyon", tmp_path / "cohort", accept_licence=True)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"cannot be reached.*127.0.0.1:9.*HF_ENDPOINT names a mirror"):
        fetch_cohort("pathorob-camelyon", tmp_path / "cohort", accept_licence=True)


def broken_midog(**changes):
    return midog({**MIDOG_BOXES, **changes})


CHANGED = [
    pytest.param(
        "camelyon17-wilds", {"camelyon17_v1.0.tar.gz": tarred({"a/b.png": b""})}, "metadata.csv", id="no table"
    ),
    pytest.param("camelyon17-wilds", wilds(rows=[(*WILDS_ROWS[0][:5], 7, 0, 0, 0)]), "tumor and split", id="a label"),
    pytest.param("camelyon17-wilds", wilds(rows=[(9, "9", 9, 9, 9, 0, 0, 0, 0)]), "no such tile", id="a tile less"),
    pytest.param(
        "camelyon17-wilds",
        {"camelyon17_v1.0.tar.gz": tarred({"metadata.csv": b"patient,node\n1,2\n"})},
        "looked for the columns patient, node, x_coord",
        id="a column less",
    ),
    pytest.param("midog-plus-plus", broken_midog(categories=[{"id": 1, "name": "cell"}]), "as in COCO", id="category"),
    pytest.param(
        "midog-plus-plus",
        broken_midog(annotations=[{"bbox": [100, 100, 50, 50], "category_id": 1, "image_id": 1}]),
        "corners x1 y1 x2 y2",
        id="width and height",
    ),
    pytest.param(
        "midog-plus-plus",
        broken_midog(images=[], annotations=[]),
        "001.tiff in MIDOG",
        id="an image that is not listed",
    ),
    pytest.param("camelyon16", camelyon16(classes=("negative", "macro", "odd")), "'odd'", id="a class"),
    pytest.param(
        "camelyon16",
        camelyon16() | {"evaluation/reference.csv": b"image,class,center\n"},
        "a row of normal_001.tif",
        id="no row",
    ),
    pytest.param(
        "nct-crc", {"CRC-VAL-HE-7K.zip": zipped({"other/ADI/a.tif": b""})}, "found other/ADI/a.tif", id="folder"
    ),
    pytest.param("tcga-ut", {"Sarcoma.zip": zipped({"Sarcoma/high/a/b.jpg": b""})}, "Sarcoma/0/TCGA-", id="resolution"),
    pytest.param("tcga-ut", {"Sarcoma.zip": zipped({"Sarcoma/0/a/b.jpg": b"x"})}, "a TCGA barcode", id="barcode"),
    pytest.param("pcam", pcam(metas=2), "as many tiles as labels and rows", id="rows"),
    pytest.param(
        "pcam", pcam() | {"camelyonpatch_level_2_split_train_x.h5.gz": gzip.compress(h5(z=1))}, "a dataset x", id="name"
    ),
    pytest.param(
        "pcam", pcam() | {"camelyonpatch_level_2_split_train_x.h5.gz": gzip.compress(b"no")}, "HDF5", id="no HDF5"
    ),
    pytest.param("pathmnist", pathmnist(((8, 12), (3,), (5,))), "looked for 0 to 8", id="a label of twelve"),
    pytest.param("pathmnist", {"pathmnist.npz": npz(train_images=np.zeros((1, 28, 28, 3)))}, "an array", id="arrays"),
    pytest.param("pathmnist", {"pathmnist.npz": b"no archive"}, "a NumPy archive", id="no archive"),
]


@pytest.mark.parametrize(("name", "files", "says"), CHANGED)
def test_a_changed_layout_says_what_was_looked_for_and_what_was_found(fetched, tmp_path, name, files, says):
    with pytest.raises(InputError) as caught:
        fetched(name, files)
    message = str(caught.value)
    assert "another layout than is known" in message and says in message
    assert "looked for" in message and "found" in message
    assert not (tmp_path / "cohort" / "manifest.csv").exists()
    assert not (tmp_path / "cohort" / "tiles").exists()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (parquet(PATHOROB_ROWS, drop=("medical_center",)), "looked for the columns image"),
        (parquet([{**PATHOROB_ROWS[0], "slide_id": "../evil"}]), "an id of"),
        (parquet([{**PATHOROB_ROWS[0], "image": {"bytes": b"GIF89a", "path": None}}]), "the bytes of a PNG"),
        (b"no parquet", "looked for Parquet"),
    ],
)
def test_a_changed_layout_on_the_hub(site, publish, tmp_path, monkeypatch, rows, says):
    files = {"data/train-00000-of-00001.parquet": rows}
    cohort = publish("pathorob-camelyon", files)
    put_on_hub(site, cohort, cohort.commit, files, monkeypatch)
    with pytest.raises(InputError, match=says):
        fetch_cohort("pathorob-camelyon", tmp_path / "cohort", accept_licence=True)
    assert not list(tmp_path.rglob("*evil*"))


def test_a_jpeg_is_kept_as_it_was_encoded(site, publish, tmp_path, monkeypatch):
    content = encoded(tile(3), ".jpg")
    files = {"data/train-00000-of-00001.parquet": parquet([{**PATHOROB_ROWS[0], "image": {"bytes": content}}])}
    cohort = publish("pathorob-camelyon", files)
    put_on_hub(site, cohort, cohort.commit, files, monkeypatch)
    fetch_cohort("pathorob-camelyon", tmp_path / "cohort", accept_licence=True)
    (written,) = (tmp_path / "cohort" / "tiles").rglob("*.jpg")
    assert written.read_bytes() == content
    assert decode(written).shape == (24, 24, 3)
