"""Tars and folders as people pack them: read right, refused by name, or counted aloud."""

import gzip
import io
import logging
import tarfile
import zipfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from polylens.data.images import ArchivePicture
from polylens.data.listing import is_system
from polylens.data.readers.imagenet import read_imagenet
from polylens.data.readers.jsonl import picture_at, read_jsonl
from polylens.data.readers.webdataset import read_webdataset
from polylens.data.tars import members, read_member, tar_picture
from polylens.errors import UserError


def picture(red=0):
    data = io.BytesIO()
    Image.new("RGB", (8, 6), (red, 7, 9)).save(data, "PNG")
    return data.getvalue()


def info(name, kind=tarfile.REGTYPE, target="", data=b""):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname, entry.size = kind, target, len(data)
    return entry, data


def pair(key, red=0):
    return [info(f"{key}.png", data=picture(red)), info(f"{key}.txt", data=f"caption {red}".encode())]


def pack(path, entries, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for entry, data in entries:
            tar.addfile(entry, io.BytesIO(data))
    return path


def read(path):
    return {sample.id: (sample.turns[0].answer, sample.images[0].read()) for sample in read_webdataset(path)}


def test_links_have_the_content_of_their_target(tmp_path):
    entries = [
        info("late.png", tarfile.SYMTYPE, "x/b.png"),  # its target comes later, by way of another link
        info("late.txt", tarfile.SYMTYPE, "a.txt"),
        *pair("a", 10),
        info("hard.png", tarfile.LNKTYPE, "a.png"),
        info("hard.txt", tarfile.LNKTYPE, "./a.txt"),
        info("x", tarfile.DIRTYPE),
        info("x/b.png", tarfile.SYMTYPE, "../a.png"),
        info("x/b.txt", data=b"own"),
    ]
    assert read(pack(tmp_path / "t.tar", entries)) == {
        "t/late": ("caption 10", picture(10)),
        "t/a": ("caption 10", picture(10)),
        "t/hard": ("caption 10", picture(10)),
        "t/x/b": ("own", picture(10)),
    }


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([info("l.png", tarfile.SYMTYPE, "/etc/x.png")], r"a link 'l.png' to '/etc/x.png', and no such file"),
        ([info("l.png", tarfile.SYMTYPE, "../x.png")], "a link 'l.png'"),
        ([info("l.png", tarfile.LNKTYPE, "gone.png")], "a link 'l.png' to 'gone.png'"),
        (
            [info("l.png", tarfile.SYMTYPE, "m.png"), info("m.png", tarfile.SYMTYPE, "l.png")],
            "a link 'l.png'",
        ),
        ([info("d", tarfile.DIRTYPE), info("l.png", tarfile.SYMTYPE, "d")], "a link 'l.png' to 'd'"),
        ([info("pipe", tarfile.FIFOTYPE)], r"holds 'pipe', which is no file"),
        ([info("null", tarfile.CHRTYPE)], r"holds 'null', which is no file"),
        ([info("/top/a.png", data=b"x")], r"'/top/a.png', a path outside of the tar"),
        ([info("../a.png", data=b"x")], r"'../a.png', a path outside of the tar"),
        ([*pair("a"), info("a.png", data=b"x")], r"a: the key is there twice, with two files .png"),
        ([*pair("a"), info("a.PNG", data=b"x")], r"a: the key is there twice, with two files .png"),
        ([*pair("a"), info("./a.txt", data=b"x")], r"a: the key is there twice"),
        ([*pair("a"), info("a.jpg", data=b"x")], r"a has 2 images \(png, jpg\)"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, entries, message):
    with pytest.raises(UserError, match=message):
        read(pack(tmp_path / "t.tar", entries))


def test_names_that_are_not_utf8(tmp_path):
    pack(tmp_path / "t.tar", pair("caf\xe9"), encoding="latin-1", format=tarfile.GNU_FORMAT)
    with pytest.raises(UserError, match=r"'caf\\xe9.png', a name that is not UTF-8"):
        read(tmp_path / "t.tar")


def test_sparse_files(tmp_path):
    header = tarfile.TarInfo("a.png")
    header.type = tarfile.GNUTYPE_SPARSE
    (tmp_path / "t.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(UserError, match=r"holds a sparse file 'a.png'"):
        read(tmp_path / "t.tar")


def test_joined_shards_are_read_to_the_end(tmp_path):
    one = pack(tmp_path / "1.tar", pair("a", 1)).read_bytes()
    two = pack(tmp_path / "2.tar", pair("b", 2)).read_bytes()
    (tmp_path / "joined").mkdir()
    (tmp_path / "joined" / "t.tar").write_bytes(one + two + bytes(5120))
    assert list(read(tmp_path / "joined")) == ["t/a", "t/b"]
    for rest in (b"x", b"x" * 512, bytes(100) + b"x" * 2000, one[:512], one[:1100]):
        (tmp_path / "joined" / "t.tar").write_bytes(one + rest)
        with pytest.raises(UserError, match=r"t\.tar"):
            read(tmp_path / "joined")


def test_a_broken_header_is_no_end(tmp_path):
    data = bytearray(pack(tmp_path / "t.tar", [*pair("a"), *pair("b")]).read_bytes())
    at = data.index(b"b.png")
    data[at : at + 1] = b"c"
    (tmp_path / "t.tar").write_bytes(data)
    with pytest.raises(UserError, match="is damaged at byte"):
        read(tmp_path / "t.tar")


def test_folders_of_shards(tmp_path, caplog):
    pack(tmp_path / "s" / "00000.tar", pair("a"))
    pack(tmp_path / "s" / "00001.TAR", pair("a"))
    pack(tmp_path / "s" / "more" / "00000.tar", pair("a"))
    for name in ("._00000.tar", ".DS_Store", "00000.parquet", "00000_stats.json"):
        (tmp_path / "s" / name).write_bytes(b"\0")
    with caplog.at_level(logging.WARNING):
        assert list(read(tmp_path / "s")) == ["00000/a", "00001/a", "more/00000/a"]
    assert "passed over 4 files that are no tars, such as '.DS_Store'" in caplog.text
    assert list(read(tmp_path / "*" / "00000.tar")) == ["00000/a"]
    assert list(read(tmp_path / "s" / "*" / "00000.tar")) == ["00000/a"]
    for name in ("2.tar.gz", "2.tgz", "2.TAR.ZST", "2.tar.xz", "2.tbz2"):
        (tmp_path / "s" / name).write_bytes(gzip.compress(b"x"))
        with pytest.raises(UserError, match=f"holds '{name}', a packed tar: unpack it first"):
            read(tmp_path / "s")
        (tmp_path / "s" / name).unlink()


def test_linked_folders_of_shards_are_read(tmp_path):
    pack(tmp_path / "disk" / "a.tar", pair("a"))
    (tmp_path / "s" / "below").mkdir(parents=True)
    (tmp_path / "s" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "s" / "below" / "circle").symlink_to(tmp_path / "s")
    pack(tmp_path / "s" / "below" / "a.tar", pair("a"))
    assert list(read(tmp_path / "s")) == ["below/a/a", "linked/a/a"]


def test_packed_bytes_under_a_plain_name(tmp_path):
    whole = pack(tmp_path / "a.tar", pair("a")).read_bytes()
    (tmp_path / "a.tar").write_bytes(gzip.compress(whole))
    with pytest.raises(UserError, match="unpack it first"):
        read(tmp_path / "a.tar")


def test_shards_of_one_name_in_several_folders(tmp_path):
    for place in ("x", "y"):
        pack(tmp_path / place / "00000.tar", pair("a"))
    assert list(read(str(tmp_path / "*" / "00000.tar"))) == ["x/00000/a", "y/00000/a"]


def test_hidden_files_in_tars(tmp_path, caplog):
    entries = [
        info("._a.png", data=b"x"),
        *pair("a"),
        info("__MACOSX/._a.png", data=b"x"),
        info("x/Thumbs.db", data=b"x"),
        info(".DS_Store", data=b"x"),
    ]
    with caplog.at_level(logging.WARNING):
        assert list(read(pack(tmp_path / "t.tar", entries))) == ["t/a"]
    assert "passed over 4 hidden or system files, such as '._a.png'" in caplog.text


def test_named_members(tmp_path):
    archive = pack(
        tmp_path / "t.tar",
        [*pair("a", 1), info("l.png", tarfile.LNKTYPE, "a.png"), *pair("b", 2), *pair("b", 3)],
    )
    assert tar_picture(archive, "l.png").read() == picture(1)
    with pytest.raises(UserError, match=r"holds 'b.png' 2 times"):
        tar_picture(archive, "b.png")
    with pytest.raises(UserError, match=r"packed tar: unpack it"):
        picture_at(tmp_path, "t.tar.gz!a.png")
    (tmp_path / "U.TAR").write_bytes(archive.read_bytes())
    assert picture_at(tmp_path, "U.TAR!a.png").load().size == (8, 6)


def test_a_zip_member_that_is_there_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ZIP", "w") as archive:
        archive.writestr("a.png", picture(1))
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.png", picture(2))
        archive.writestr("b.png", picture(3))
    found = picture_at(tmp_path, "a.ZIP!b.png")
    assert isinstance(found, ArchivePicture)
    assert found.read() == picture(3)
    with pytest.raises(UserError, match=r"holds 'a.png' 2 times"):
        _ = picture_at(tmp_path, "a.ZIP!a.png").key


def test_folders_of_json_lines(tmp_path, caplog):
    line = (
        b'{"id": "1", "images": [], "turns": [["a", "b"]], "language": "de", "task": "vqa", "source": "s"}\n'
    )
    (tmp_path / "a.JSONL").write_bytes(line)
    (tmp_path / "b.Jsonl.GZ").write_bytes(gzip.compress(line.replace(b'"1"', b'"2"')))
    (tmp_path / "._a.jsonl").write_bytes(b"\0\5")
    with caplog.at_level(logging.WARNING):
        assert [sample.id for sample in read_jsonl(tmp_path)] == ["1", "2"]
    assert "passed over 1 hidden or system files" in caplog.text
    (tmp_path / "c.jsonl.zst").write_bytes(b"x")
    with pytest.raises(UserError, match=r"'c.jsonl.zst', packed in another way than gzip"):
        list(read_jsonl(tmp_path))


def test_class_folders_hold_pictures_only(tmp_path, caplog):
    folder = tmp_path / "train" / "n00000002"
    folder.mkdir(parents=True)
    (tmp_path / "names.txt").write_text("".join(f"n{i:08d} thing{i}\n" for i in range(1000)))
    (tmp_path / "labels.json").write_text('{"DE": [[2], ["Hund"]]}')
    for name in ("a.JPEG", "b.png", "._a.JPEG", "Thumbs.db", ".DS_Store", "notes.txt"):
        (folder / name).write_bytes(picture())
    with caplog.at_level(logging.WARNING):
        samples = read_imagenet(
            tmp_path / "train",
            labels=tmp_path / "labels.json",
            synsets=tmp_path / "names.txt",
            languages=["de"],
        )
        assert {sample.extra["image"] for sample in samples} == {"a.JPEG", "b.png"}
    assert "passed over 4 files that are no pictures" in caplog.text


@pytest.mark.parametrize("name", ["._x.jpg", "a/.git/x", "__MACOSX/x.jpg", "THUMBS.DB", "a/desktop.ini"])
def test_system_files(name):
    assert is_system(name)


@pytest.mark.parametrize("name", ["a/x._jpg", "./x.jpg", "../x.jpg", "x"])
def test_own_files(name):
    assert not is_system(name)


NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/."), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=1500)),
        max_size=6,
        unique_by=lambda one: one[0],
    ),
    st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_any_layout_gives_back_its_files(tmp_path, files, kind, tars, linked):
    """Files, hard and symbolic links, in one tar or in several joined: the bytes come back, in order."""
    path, expected, content = tmp_path / "t.tar", [], b""
    for number in range(tars):
        entries = [info(f"{number}/{name}", data=data) for name, data in files]
        expected += [(f"{number}/{name}", data) for name, data in files]
        for i, (name, data) in enumerate(files[:linked]):
            entries.append(info(f"{number}-{i}h", tarfile.LNKTYPE, f"{number}/{name}"))
            entries.append(info(f"{number}-{i}s", tarfile.SYMTYPE, f"./{number}/{name}"))
            expected += [(f"{number}-{i}h", data), (f"{number}-{i}s", data)]
        content += pack(path, entries, format=kind).read_bytes()
    path.write_bytes(content)
    assert [(member.name, read_member(path, member)) for member in members(path)] == expected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2047))
def test_no_cut_goes_unseen(tmp_path, cut):
    """A tar that ends anywhere before its two blocks of zeros is refused."""
    entries = [info("a.png", data=b"x" * 300), info("b.png", data=b"y" * 200)]
    whole = pack(tmp_path / "t.tar", entries).read_bytes()
    (tmp_path / "t.tar").write_bytes(whole[: min(cut, 2048 + 1023)])
    with pytest.raises(UserError, match=r"t\.tar"):
        members(tmp_path / "t.tar")
