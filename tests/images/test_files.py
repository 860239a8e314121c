"""Folders and manifests: what becomes a table, and what is refused."""

import pickle

import numpy as np
import pandas as pd
import pytest

from histolatent.errors import InputError, OptionError
from histolatent.images import TileSource, open_tiles
from histolatent.images.columns import check_table, rename_columns


def manifest(root, text, name="manifest.csv", encoding="utf-8"):
    path = root / name
    path.write_bytes(text.encode(encoding))
    return path


def test_a_folder_with_sub_folders_has_labels(folder):
    root = folder("tumour/b.png", "tumour/deep/a.PNG", "stroma/c.png", ".hidden/d.png", "stroma/.e.png")
    (root / "notes.txt").write_text("no image")
    source = open_tiles(root)
    assert isinstance(source, TileSource)
    assert list(source.table.index) == ["stroma/c.png", "tumour/b.png", "tumour/deep/a.PNG"]
    assert list(source.table["label"]) == ["stroma", "tumour", "tumour"]
    assert source.name == "tiles"
    assert source.read(1).shape == (40, 52, 3)


def test_a_flat_folder_has_no_labels(folder):
    source = open_tiles(folder("b.png", "a.png", "sub/c.png"))
    assert list(source.table.index) == ["a.png", "b.png", "sub/c.png"]
    assert "label" not in source.table


def test_empty_folders_say_what_would_be_an_image(tmp_path):
    (tmp_path / "slide.svs").touch()
    with pytest.raises(InputError, match=r"no images in this folder. Received: .*. Valid: \.png, \.jpg"):
        open_tiles(tmp_path)


def test_a_folder_with_a_manifest_is_read_by_it(folder):
    root = folder("a.png", "b.png")
    for name, separator in {"manifest.parquet": "", "manifest.tsv": "\t", "manifest.csv": ","}.items():
        if separator:
            manifest(root, f"path{separator}label\nb.png{separator}{name}\n", name)
        else:
            pd.DataFrame({"path": ["b.png"], "label": [name]}).to_parquet(root / name)
        assert list(open_tiles(root).table["label"]) == [name]


@pytest.mark.parametrize(("name", "separator"), [("m.csv", ","), ("m.csv", ";"), ("m.tsv", "\t")])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_text_manifests(folder, name, separator, start, end):
    root = folder("a.png", "b.png")
    rows = [["path", " label", "patient", "mpp", "note", "case"], ["b.png", "NA", "001", "0.25", "1.5", "007"]]
    rows.append(["a.png", " é ", "", "", "2", "11"])
    source = open_tiles(manifest(root, start + end.join(separator.join(row) for row in rows) + end, name))
    table = source.table
    assert list(table.index) == ["b.png", "a.png"]
    assert list(table["label"]) == ["NA", "é"]
    assert list(table["patient"]) == ["001", None]
    assert table["mpp"].tolist()[0] == 0.25
    assert np.isnan(table["mpp"].iloc[1])
    assert list(table["note"]) == [1.5, 2.0]
    assert list(table["case"]) == ["007", "11"]
    assert "path" not in table
    np.testing.assert_array_equal(source.read(1), open_tiles(root).read(0))
    assert pickle.loads(pickle.dumps(source)).reader == source.reader


def test_parquet_manifests_with_and_without_an_index(folder):
    root = folder("a.png", "b.png")
    frame = pd.DataFrame({"path": ["b.png", "a.png"], "label": pd.Categorical(["x", None]), "patient": ["001", "NA"]})
    frame.to_parquet(root / "m.parquet")
    frame.assign(tile_id=["t1", "t2"]).set_index("tile_id").to_parquet(root / "n.parquet")
    plain, named = open_tiles(root / "m.parquet").table, open_tiles(root / "n.parquet").table
    assert list(plain.index) == ["b.png", "a.png"]
    assert list(named.index) == ["t1", "t2"]
    for table in (plain, named):
        assert list(table["label"]) == ["x", None]
        assert list(table["patient"]) == ["001", "NA"]


def test_ids_come_from_a_column_if_there_is_one(folder):
    root = folder("a.png")
    path = manifest(root, "path,tile_id,id\na.png,007,z\na.png,008,y\n")
    assert list(open_tiles(path).table.index) == ["007", "008"]


def test_columns_are_named_by_the_user(folder):
    root = folder("a.png", "b.png")
    path = manifest(root, "file,diagnosis,machine,site,scanner\na.png,x,s1,A,B\nb.png,y,s2,C,D\n")
    columns = {"path": "file", "label": "diagnosis", "stain": "machine", "split": "machine"}
    table = open_tiles(path, columns=columns).table
    assert list(table["label"]) == list(table["diagnosis"]) == ["x", "y"]
    assert list(table["stain"]) == list(table["split"]) == ["s1", "s2"]
    swapped = open_tiles(path, columns={"path": "file", "site": "scanner", "scanner": "site"}).table
    assert list(swapped["site"]) == ["B", "D"]
    assert list(swapped["scanner"]) == ["A", "C"]


def test_columns_that_do_not_exist():
    frame = pd.DataFrame({"path": ["a"], "diagnosis": ["x"]})
    with pytest.raises(OptionError, match=r"no known column is called 'lable'.*did you mean 'label'"):
        rename_columns(frame, {"lable": "diagnosis"})
    with pytest.raises(OptionError, match=r"no column 'diagnose' to use as label. Valid: path, diagnosis"):
        rename_columns(frame, {"label": "diagnose"})


def test_a_manifest_without_paths(folder):
    root = folder("a.png")
    with pytest.raises(InputError, match=r"no column 'path'.*with columns file, label. Fix: .*--column path="):
        open_tiles(manifest(root, "file,label\na.png,x\n"))
    with pytest.raises(InputError, match=r"a row has no path. Received: .*, row 3"):
        open_tiles(manifest(root, "path,label\na.png,x\n,y\n"))
    with pytest.raises(InputError, match=r"a row has no tile_id.*row 2"):
        open_tiles(manifest(root, "path,tile_id\na.png,\n"))
    with pytest.raises(InputError, match="there are no tiles"):
        open_tiles(manifest(root, "path,label\n"))
    with pytest.raises(InputError, match=r"the manifest cannot be read \(No columns"):
        open_tiles(manifest(root, ""))


def test_duplicate_ids_are_named(folder):
    root = folder("a.png", "b.png")
    with pytest.raises(InputError, match=r"1 tile ids stand more than once. Received: .*manifest.csv: a.png"):
        open_tiles(manifest(root, "path\na.png\nb.png\na.png\n"))


def test_a_missing_file_is_named_when_it_is_read(folder):
    source = open_tiles(manifest(folder("a.png"), "path\na.png\nsub/gone.png\n"))
    with pytest.raises(InputError, match=r"image file not found. Received: .*sub/gone.png"):
        source.read(1)


def test_windows_separators(folder):
    source = open_tiles(manifest(folder("sub/a.png"), "path\nsub\\a.png\n"))
    assert source.read(0).shape == (40, 52, 3)


@pytest.mark.parametrize("path", ["../secret.png", "sub/../../secret.png", "/etc/passwd", "..\\secret.png"])
def test_paths_that_lead_outside_are_refused(folder, path):
    folder("secret.png", into=".")
    root = folder("a.png")
    file = manifest(root, f"path\na.png\n{path}\n")
    with pytest.raises(InputError, match=r"1 path leads out .*Valid: paths below .*Fix: pass --allow-outside"):
        open_tiles(file)
    assert len(open_tiles(file, allow_outside=True).table) == 2


def test_a_folder_whose_name_starts_alike_is_outside(folder):
    folder("a.png", into="tiles-2")
    with pytest.raises(InputError, match="leads out"):
        open_tiles(manifest(folder("a.png"), "path\n../tiles-2/a.png\n"))


def test_manifests_that_are_not_utf8_are_located(folder):
    root = folder("a.png")
    text = "path,label\n" + "a.png,x\n" * 3000 + "a.png,Méd\n"
    with pytest.raises(InputError, match=r"not UTF-8 \(line 3002 has the byte 0xe9\).*Fix: iconv -f latin1"):
        open_tiles(manifest(root, text, encoding="latin1"))


def test_rows_and_headers_that_do_not_match(folder):
    root = folder("a.png")
    assert list(open_tiles(manifest(root, "path,label\na.png,x,\n")).table["label"]) == ["x"]
    with pytest.raises(InputError, match="more cells than its header"):
        open_tiles(manifest(root, "path,label\na.png,x,1\n"))
    with pytest.raises(InputError, match="cannot be read"):
        open_tiles(manifest(root, "path,label\na.png,x\nb.png,y,1,2\n"))
    assert open_tiles(manifest(root, "path,label,site\na.png,x\n")).table["site"].isna().all()


def test_numbers_that_are_none(folder):
    root = folder("a.png")
    with pytest.raises(InputError, match=r"column 'mpp' must hold numbers. Received: .*'0,25' for tile a.png"):
        open_tiles(manifest(root, "path;mpp\na.png;0,25\n"))
    for bad in ("0", "-0.5", "inf"):
        with pytest.raises(InputError, match=rf"mpp must be a finite number above 0 um/px.*: {bad} for tile a"):
            open_tiles(manifest(root, f"path,mpp\na.png,{bad}\n"))


def test_a_parquet_file_that_is_none(folder):
    with pytest.raises(InputError, match="the manifest cannot be read"):
        open_tiles(manifest(folder("a.png"), "path\na.png\n", "m.parquet"))


def test_columns_of_every_type_are_tidied():
    frame = pd.DataFrame({"label": [1, None], "x": ["3", 4.5], "other": ["1", " "], "mixed": ["1", "a"]})
    frame["day"] = pd.to_datetime(["2020", None])
    table = check_table(frame, origin="test")
    assert list(table.index) == ["0", "1"]
    assert list(table["label"]) == ["1.0", None]
    assert list(table["x"]) == [3.0, 4.5]
    assert table["other"].tolist()[0] == 1.0
    assert list(table["mixed"]) == ["1", "a"]
    assert table["day"].dtype.kind == "M"
    assert list(frame["mixed"]) == ["1", "a"]


@pytest.mark.data
def test_a_real_cohort(data):
    source = open_tiles(data / "oral_cancer", columns={"site": "magnification"})
    assert set(source.table["label"]) == {"Normal", "OSCC"}
    assert set(source.table["site"]) == {"100x", "400x"}
    assert source.read(0).shape[2] == 3
    assert source.name == "oral_cancer/manifest.csv"
