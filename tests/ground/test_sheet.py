import pytest
from hypothesis import given
from hypothesis import strategies as st

from msdsr.errors import UserError
from msdsr.sheet import COLUMNS, ID, read_sheet, refuse_leaks, write_sheet

ROW = {
    "slide": "S1", "patient": "P1", "path": "raw/S1.tif", "split": "train", "z_um": "1",
    "y_um": "0.5", "x_um": "0.5", "channels": "CH2,CH3", "notes": "",
}  # fmt: skip


def sheet(tmp_path, *changes, columns=COLUMNS):
    path = tmp_path / "c.tsv"
    rows = [{**ROW, **change} for change in changes]
    lines = ["\t".join(columns)] + ["\t".join(row.get(c, "") for c in columns) for row in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_rows_come_back(tmp_path):
    path = sheet(tmp_path, {}, {"slide": "S2", "notes": "first, of 2"})
    table = read_sheet(path, check_files=False)
    assert list(table.index) == ["S1", "S2"]
    assert table.loc["S1", "channels"] == ("CH2", "CH3")
    assert table.loc["S1", "z_um"] == 1.0
    assert table.loc["S2", "truth"] == ""
    write_sheet(tmp_path / "again.tsv", table)
    assert read_sheet(tmp_path / "again.tsv", check_files=False).equals(table)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([{}, {}], "slide 'S1' stands twice"),
        ([{}, {"slide": "S2", "split": "val"}], "patient 'P1' is in the splits train and val"),
        ([{"split": "test"}], "line 2: split is 'test'; expected train, val or infer"),
        ([{"z_um": "0"}], "line 2: z_um is '0'; expected a spacing above 0"),
        ([{"x_um": "-1"}], "x_um is '-1'"),
        ([{"y_um": "nan"}], "y_um is 'nan'"),
        ([{"y_um": "inf"}], "y_um is 'inf'"),
        ([{"y_um": "half"}], "y_um is 'half'"),
        ([{"slide": "a/b"}], "slide is 'a/b'"),
        ([{"slide": ".."}], "slide is '..'"),
        ([{"slide": "a..b"}], "slide is 'a..b'"),
        ([{"patient": ""}], "patient is ''"),
        ([{"channels": "CH2,CH2"}], "channels is 'CH2,CH2'"),
        ([{"channels": ",".join("abcdefghi")}], "9 channels"),
        ([{"path": ""}], "path is empty"),
        ([{}, {"slide": "S2", "channels": "CH3,CH2"}], "channels differ"),
        ([{"split": "infer", "path": "a.images.tsv"}], "'infer' for a list of 2D images"),
        ([], "no slides"),
    ],
)
def test_mistakes_are_told_in_one_line(tmp_path, changes, message):
    path = sheet(tmp_path, *changes)
    with pytest.raises(UserError, match=message) as caught:
        read_sheet(path, check_files=False)
    assert str(path) in caught.value.line()


def test_files_must_exist(tmp_path):
    with pytest.raises(UserError, match=r"path raw/S1.tif does not exist"):
        read_sheet(sheet(tmp_path, {}))


def test_columns_are_known_and_complete(tmp_path):
    with pytest.raises(UserError, match=r"unknown column 'pth'.*did you mean 'path'"):
        read_sheet(sheet(tmp_path, {}, columns=(*COLUMNS[:2], "pth", *COLUMNS[3:])))
    with pytest.raises(UserError, match="column 'notes' is missing"):
        read_sheet(sheet(tmp_path, {}, columns=COLUMNS[:-1]))
    with pytest.raises(UserError, match="no such sample sheet"):
        read_sheet(tmp_path / "none.tsv")
    (tmp_path / "empty.tsv").touch()
    with pytest.raises(UserError, match="unreadable"):
        read_sheet(tmp_path / "empty.tsv")


@given(slide=st.text(max_size=12))
def test_only_safe_ids_pass(tmp_path_factory, slide):
    path = sheet(tmp_path_factory.mktemp("s"), {"slide": slide.replace("\t", " ")})
    stripped = slide.replace("\t", " ").strip()
    safe = ID.fullmatch(stripped) and ".." not in stripped and stripped != "."
    if safe and "#" not in slide and '"' not in slide:
        assert list(read_sheet(path, check_files=False).index) == [stripped]
    else:
        with pytest.raises(UserError) as caught:
            read_sheet(path, check_files=False)
        assert "\n" not in caught.value.line()


def test_optional_columns(tmp_path):
    columns = (*COLUMNS, "class", "flagged")
    path = sheet(tmp_path, {"class": "hgg", "flagged": "0, 19"}, {"slide": "S2"}, columns=columns)
    table = read_sheet(path, check_files=False)
    assert table["class"].tolist() == ["hgg", ""]
    assert table["flagged"].tolist() == [(0, 19), ()]
    write_sheet(tmp_path / "again.tsv", table)
    assert read_sheet(tmp_path / "again.tsv", check_files=False).equals(table)
    for change, message in (({"class": "a b"}, "class is 'a b'"), ({"flagged": "-1"}, "'-1'")):
        with pytest.raises(UserError, match=message):
            read_sheet(sheet(tmp_path, change, columns=columns), check_files=False)


@pytest.mark.parametrize("split", ["val", "infer"])
def test_a_patient_who_teaches_judges_in_no_cohort(tmp_path, split):
    def read(name, *changes):
        (tmp_path / name).mkdir()
        return read_sheet(sheet(tmp_path / name, *changes), check_files=False)

    sheets = {
        "a": read("a", {}, {"slide": "S2", "patient": "P2", "split": "val"}),
        "b": read("b", {"slide": "S3", "split": split}),
    }
    with pytest.raises(UserError, match=f"'P1' is in `{split}` with slide 'S3' and in `train`"):
        refuse_leaks(["a"], sheets)
    # Cohort b does not teach, so its train slides may belong to anybody.
    refuse_leaks(["b"], sheets)
    refuse_leaks(["a"], {"a": sheets["a"]})
