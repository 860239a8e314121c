"""Tables on disk: every form there and back, old stores, bad files, and failures half-way."""

import errno
import shutil
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from histolatent.embeddings import FORMS, card_of, check_form, make_table, obs_of, read_table, refuse_table, write_table
from histolatent.errors import InputError, OptionError, OutputError

V1 = Path(__file__).parent / "data" / "v1.zarr.zip"
TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=8)
NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@st.composite
def contents(draw):
    """Vectors and rows, with missing values and text that is easily misread."""
    ids = draw(st.lists(TEXT, min_size=1, max_size=5, unique=True))
    n, d = len(ids), draw(st.integers(1, 3))
    cells = draw(st.lists(NUMBERS, min_size=n * d, max_size=n * d))
    obs = pd.DataFrame(
        {
            "label": draw(st.lists(st.none() | TEXT, min_size=n, max_size=n)),
            "patient": draw(
                st.lists(st.none() | st.sampled_from(["001", "NA", "nan", "1e3", "é,;\t"]), min_size=n, max_size=n)
            ),
            "mpp": draw(st.lists(st.none() | st.floats(0.1, 2), min_size=n, max_size=n)),
            "slide": draw(st.lists(st.sampled_from(["s1", "s/2", "S é"]), min_size=n, max_size=n)),
            "x": draw(st.lists(st.integers(0, 2**31), min_size=n, max_size=n)),
            "y": range(n),
        },
        index=pd.Index(ids, name="tile"),
    ).astype({"mpp": float, "label": object, "patient": object})
    return np.array(cells, np.float32).reshape(n, d), obs


def table_of(content) -> anndata.AnnData:
    return make_table(*content, {"encoder": "é", "seed": 3})


def example(n: int = 5, d: int = 3) -> anndata.AnnData:
    rng = np.random.default_rng(n)
    obs = pd.DataFrame(
        {
            "label": ["a", None, "b", "NA", "001"][:n],
            "slide": ["s1", "s2"] * 2 + ["s1"],
            "x": range(5),
            "y": range(5, 10),
        },
        index=[f"t{i}" for i in range(5)],
    )
    return make_table(rng.normal(size=(n, d)).astype(np.float32), obs, {"seed": 3})


@pytest.mark.parametrize("form", [".zarr", ".h5ad", ".parquet", ".csv"])
@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(content=contents())
def test_forms_with_rows_come_back_as_they_were(tmp_path, form, content):
    table = table_of(content)
    path = write_table(table, tmp_path / f"a{form}", overwrite=True)
    back = read_table(path)
    np.testing.assert_array_equal(np.asarray(back.X), np.asarray(table.X))
    assert np.asarray(back.X).dtype == np.float32
    assert list(back.obs_names) == list(table.obs_names)
    before, after = obs_of(table), obs_of(back)
    assert list(after.columns) == list(before.columns)
    for column in ("label", "patient", "slide"):
        assert [*before[column].astype(object).where(before[column].notna(), None)] == [
            *after[column].astype(object).where(after[column].notna(), None)
        ], column
    for column in ("mpp", "x", "y"):
        np.testing.assert_array_equal(before[column].to_numpy(), after[column].to_numpy())
    if form in (".zarr", ".h5ad"):
        assert card_of(back) == card_of(table)
    else:
        assert card_of(back) == {"origin": path.name, "format": 1}


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(content=contents())
def test_npy_keeps_vectors_and_ids(tmp_path, content):
    table = table_of(content)
    path = write_table(table, tmp_path / "a.npy", overwrite=True)
    back = read_table(path)
    np.testing.assert_array_equal(np.asarray(back.X), np.asarray(table.X))
    assert list(back.obs_names) == list(table.obs_names)
    np.testing.assert_array_equal(np.load(path), np.asarray(table.X))


@settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(content=contents())
def test_one_file_per_slide_keeps_vectors_and_places(tmp_path, content):
    table = table_of(content)
    path = write_table(table, tmp_path / "a.h5", overwrite=True)
    back = obs_of(read_table(path))
    obs = obs_of(table)
    order = np.argsort(obs["slide"].astype(str).str.replace("/", "_").to_numpy(), kind="stable")
    np.testing.assert_array_equal(np.asarray(read_table(path).X), np.asarray(table.X)[order])
    for column in ("x", "y"):
        assert list(back[column]) == list(obs[column].to_numpy()[order])
    assert list(back["slide"]) == [slide.replace("/", "_") for slide in obs["slide"].astype(str).to_numpy()[order]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebody_else_is_never_replaced(tmp_path, form, overwrite):
    target = tmp_path / f"a{form}"
    target.mkdir()
    (target / "s1.h5").write_text("mine")
    for attempt in (refuse_table, lambda path, **options: write_table(example(), path, **options)):
        with pytest.raises(OutputError, match="not replaced") as refused:
            attempt(target, overwrite=overwrite)
        assert "--overwrite" not in str(refused.value)
    assert [path.name for path in tmp_path.rglob("*")] == [target.name, "s1.h5"]


@pytest.mark.parametrize("form", FORMS)
def test_a_table_replaces_a_table(tmp_path, form):
    obs = example().obs
    obs["label"] = "a"
    table = make_table(np.asarray(example().X), obs, {"seed": 3})
    path = write_table(table, tmp_path / f"a{form}")
    with pytest.raises(OutputError, match=r"exists already.*--overwrite"):
        refuse_table(path)
    refuse_table(path, overwrite=True)
    assert read_table(write_table(table, path, overwrite=True)).n_obs == 5


def test_layers_survive(tmp_path):
    table = example()
    layered = make_table(np.asarray(table.X), obs_of(table), {}, views={"blur@1": np.asarray(table.X) + 1})
    for form in (".zarr", ".h5ad"):
        back = read_table(write_table(layered, tmp_path / f"a{form}"))
        np.testing.assert_array_equal(np.asarray(back.layers["blur@1"]), np.asarray(table.X) + 1)


def test_an_archived_store_of_format_1_opens(tmp_path):
    shutil.unpack_archive(V1, tmp_path)
    table = read_table(tmp_path / "v1.zarr")
    np.testing.assert_array_equal(np.asarray(table.X), np.arange(12, dtype=np.float32).reshape(4, 3) / 8)
    np.testing.assert_array_equal(np.asarray(table.layers["blur@1"]), np.arange(12, dtype=np.float32).reshape(4, 3) / 4)
    assert list(table.obs_names) == ["s1/t0", "s1/t1", "é/t2", "s2/t3"]
    obs = obs_of(table)
    assert obs["label"].tolist()[:3] == ["tumour", "NA", "tumour"]
    assert obs["label"].isna().tolist() == [False, False, False, True]
    assert obs["patient"].tolist() == ["001", "001", "002", "002"]
    assert obs["mpp"].tolist()[:3] == [0.5, 0.25, 0.5]
    assert card_of(table)["encoder"]["name"] == "toy:archived"


@pytest.mark.parametrize("form", FORMS)
def test_what_exists_is_kept_unless_told_otherwise(tmp_path, form):
    path = tmp_path / f"a{form}"
    write_table(example(), path)
    with pytest.raises(OutputError, match=r"exists already.*Fix: choose another path, or pass --overwrite"):
        write_table(example(d=2), path)
    assert read_table(path).n_vars == 3
    write_table(example(d=2), path, overwrite=True)
    assert read_table(path).n_vars == 2


def test_ids_beside_an_array_are_not_replaced_by_surprise(tmp_path):
    (tmp_path / "a.ids.txt").write_text("precious\n")
    with pytest.raises(OutputError, match=r"exists already.*a\.ids\.txt"):
        write_table(example(), tmp_path / "a.npy")
    assert (tmp_path / "a.ids.txt").read_text() == "precious\n"
    assert not (tmp_path / "a.npy").exists()


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_leaves_nothing_that_looks_whole(tmp_path, monkeypatch, form):
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*arguments, **options):
        for argument in arguments:
            if isinstance(argument, Path):
                argument.write_bytes(b"half")
        raise full

    path = tmp_path / f"a{form}"
    write_table(example(d=2), path)
    before = sorted(p.name for p in tmp_path.iterdir())
    monkeypatch.setattr(anndata.io, "write_elem", fail)
    monkeypatch.setattr(anndata.AnnData, "write_h5ad", fail)
    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    monkeypatch.setattr(pd.DataFrame, "to_csv", fail)
    monkeypatch.setattr(np, "save", fail)
    if form == ".h5":
        monkeypatch.setattr(h5py, "File", fail)
    with pytest.raises(OutputError, match=r"the disk is full; nothing that looks complete.*Fix: free space"):
        write_table(example(), path, overwrite=True)
    with pytest.raises(OutputError, match="the disk is full"):
        write_table(example(), tmp_path / f"b{form}")
    monkeypatch.undo()
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert read_table(path).n_vars == 2


def test_forms_that_cannot_hold_the_rows(tmp_path):
    with pytest.raises(OptionError, match=r"no form of embedding table has this ending. Received: a.txt. Valid: .zarr"):
        write_table(example(), tmp_path / "a.txt")
    plain = pd.DataFrame(index=["a"])
    with pytest.raises(InputError, match="one HDF5 file per slide needs slide, x, y for every tile"):
        check_form("a.h5", plain)
    with pytest.raises(InputError, match="needs x for every tile"):
        check_form("a.h5", pd.DataFrame({"slide": ["s"], "x": [np.nan], "y": [1]}))
    for column in ("z0", "z17", "tile"):
        for form in (".csv", ".parquet"):
            with pytest.raises(InputError, match=f"column '{column}' has the name of a column that {form} needs"):
                check_form(f"a{form}", pd.DataFrame({column: [1]}))
    for tile in ("", "a\nb", "a\n", "a\x85b"):
        with pytest.raises(InputError, match=r"line break, so \.npy cannot keep it"):
            check_form("a.npy", pd.DataFrame(index=[tile]))
    clash = make_table(
        np.ones((2, 1), np.float32), pd.DataFrame({"slide": ["a/b", "a_b"], "x": 1, "y": 1}, index=["1", "2"]), {}
    )
    with pytest.raises(InputError, match=r"two slides would have the same file name. Received: a_b"):
        write_table(clash, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 nothing", b"tile,z0\n\xe9,1\n"])
def test_files_that_are_no_tables(tmp_path, form, content):
    (tmp_path / f"a{form}").write_bytes(content)
    with pytest.raises(InputError) as raised:
        read_table(tmp_path / f"a{form}")
    assert f"a{form}" in str(raised.value)


def test_places_without_tables(tmp_path):
    with pytest.raises(InputError, match="there is no embedding table at this path"):
        read_table(tmp_path / "a.zarr")
    for name in ("a.zarr", "a.h5", "a"):
        (tmp_path / name).mkdir()
    with pytest.raises(InputError, match="not an embedding table"):
        read_table(tmp_path / "a.zarr")
    with pytest.raises(InputError, match=r"there is no \.h5 file in this folder"):
        read_table(tmp_path / "a.h5")
    with pytest.raises(InputError, match=r"no form of embedding table.*Valid: \.zarr"):
        read_table(tmp_path / "a")


def test_anndata_from_elsewhere(tmp_path):
    other = anndata.AnnData(np.ones((2, 2), np.float32))
    other.write_h5ad(tmp_path / "a.h5ad")
    with pytest.raises(InputError, match="no provenance card"):
        read_table(tmp_path / "a.h5ad")
    broken = example()
    np.asarray(broken.X)[1, 2] = np.nan
    broken.write_h5ad(tmp_path / "b.h5ad")
    with pytest.raises(InputError, match=r"1 of 5 vectors hold NaN.*Received: t1"):
        read_table(tmp_path / "b.h5ad")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tile,z0\na,1,2\nb,3,4\n", r"not a table \(Length of header"),
        ("tile,label\na,x\n", r"the columns of the vectors are not z0, z1"),
        ("tile,z0,z2\na,1,2\n", r"the columns of the vectors are not z0, z1.*tile|z0, z2"),
        ("tile,z0\na,x\n", r"a vector column holds text"),
        ("tile,z0\na,1\na,2\n", r"tile ids stand more than once. Received: a"),
        ("tile,z0\na,1\nb,\n", r"1 of 2 vectors hold NaN.*Received: b"),
        ("tile,z0\na,inf\nb,1\n", r"1 of 2 vectors hold NaN or infinite.*Received: a"),
        ("tile,z0\na,1\n,1\n", r"a row has no tile id. Received: .*row 3"),
    ],
)
def test_csv_tables_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "a.csv")


def test_arrays_from_elsewhere(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(6).reshape(3, 2))
    table = read_table(tmp_path / "a.npy")
    assert list(table.obs_names) == ["0", "1", "2"]
    assert np.asarray(table.X).dtype == np.float32
    (tmp_path / "a.ids.txt").write_text("a\nb\n")
    with pytest.raises(InputError, match="3 vectors for 2 tiles"):
        read_table(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.full((2, 2), 1e300))
    with pytest.raises(InputError, match="2 of 2 vectors hold NaN or infinite"):
        read_table(tmp_path / "b.npy")
    np.save(tmp_path / "c.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"vectors must be numbers \(n, d\). Received: .*c.npy: float64 \(3,\)"):
        read_table(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.array([["a"]]))
    with pytest.raises(InputError, match="vectors must be numbers"):
        read_table(tmp_path / "d.npy")


def test_slides_from_elsewhere(tmp_path):
    with h5py.File(tmp_path / "s2.h5", "w") as file:
        file["features"] = np.arange(6.0).reshape(1, 3, 2)  # as some tools keep a batch axis
    with h5py.File(tmp_path / "s1.h5", "w") as file:
        file["features"] = np.ones((2, 2), np.float16)
        file["coords"] = [[0, 224], [224, 0]]
    table = read_table(tmp_path)
    assert list(table.obs_names) == ["s1/0", "s1/1", "s2/0", "s2/1", "s2/2"]
    assert obs_of(table)["x"].tolist()[:2] == [0, 224]
    assert read_table(tmp_path / "s1.h5").n_obs == 2
    for broken, message in {
        "features": r"no dataset 'features'. Received: .*s3.h5. Valid: coords",
        "coords": r"features must be \(n, d\) and coords \(n, 2\)",
        "width": r"vectors of different lengths. Received: .*\[2, 5\]",
    }.items():
        with h5py.File(tmp_path / "s3.h5", "w") as file:
            if broken != "features":
                file["features"] = np.ones((2, 5))
            file["coords"] = np.ones((3 if broken == "coords" else 2, 2))
        with pytest.raises(InputError, match=message):
            read_table(tmp_path)
