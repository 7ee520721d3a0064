"""Readers of official files, on small files of the same form, written out here field by field."""

import io
import json
from collections import Counter

import pytest
from PIL import Image

from polylens.errors import UserError
from polylens.evaluation.benchmarks.interface import benchmarks, find_benchmark, picture_name
from polylens.evaluation.benchmarks.pictures import locate
from polylens.evaluation.benchmarks.tables import ParquetPicture


def write(folder, name, content):
    """A list is written as JSON lines, all else as JSON."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, list):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
    else:
        text = json.dumps(content, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")


def read(name, folder, languages=None):
    return list(find_benchmark(name).read(folder, languages))


def test_every_registered_benchmark_loads_under_its_name():
    assert len(benchmarks()) == 23
    for name in benchmarks():
        found = find_benchmark(name)
        assert found.name == name
        assert found.title
        assert found.files
    with pytest.raises(UserError, match="did you mean 'xm3600'"):
        find_benchmark("xm360")


@pytest.mark.parametrize("name", [name for name in benchmarks() if name not in ("picto", "captions")])
def test_an_empty_folder_is_one_sentence_that_says_what_is_wanted(tmp_path, name):
    with pytest.raises(UserError, match=r"holds no file of .*: give the folder with"):
        read(name, tmp_path)


def test_xm3600(tmp_path):
    row = {
        "image/key": "0a1b",
        "image/locale": "he",
        "en": {"caption": ["A dog.", "Dogs."], "caption/tokenized": ["a dog .", "dogs ."]},
        "iw": {"caption": ["כלב"]},
        "quz": {"caption": ["Allqu\u2028"]},
        "fil": {"caption": []},
    }
    write(tmp_path, "captions.jsonl", [row])
    found = read("xm3600", tmp_path)
    assert [(q.id, q.language, q.answers) for q in found] == [
        ("en/0a1b", "en", ("A dog.", "Dogs.")),
        ("he/0a1b", "he", ("כלב",)),
        ("quz/0a1b", "quz", ("Allqu\u2028",)),
    ]
    assert found[0].images == ("0a1b.jpg",)
    assert [q.language for q in read("xm3600", tmp_path, ["he"])] == ["he"]
    write(tmp_path, "captions.jsonl", [{"key": "0a1b"}])
    with pytest.raises(UserError, match="a row without 'image/key'"):
        read("xm3600", tmp_path)


def test_karpathys_test_split(tmp_path):
    images = [
        {
            "split": split,
            "filename": f"COCO_val2014_{n}.jpg",
            "filepath": "val2014",
            "sentences": [{"raw": f"s{n}"}],
        }
        for n, split in enumerate(("test", "train", "restval", "test"))
    ]
    write(tmp_path, "dataset_coco.json", {"images": images})
    assert [(q.answers, q.images) for q in read("coco", tmp_path)] == [
        ((f"s{n}",), ((f"COCO_val2014_{n}.jpg", f"val2014/COCO_val2014_{n}.jpg"),)) for n in (0, 3)
    ]
    assert read("coco", tmp_path, ["de"]) == []
    flickr = [{"split": "test", "filename": "1.jpg", "sentences": [{"raw": "a"}, {"raw": "b"}]}]
    write(tmp_path, "dataset_flickr30k.json", {"images": flickr})
    [question] = read("flickr30k", tmp_path)
    assert question.answers == ("a", "b")


def test_cocos_own_captions(tmp_path):
    content = {
        "images": [{"id": 7, "file_name": "000000000007.jpg"}],
        "annotations": [{"image_id": 7, "caption": "one"}, {"image_id": 7, "caption": "two"}],
    }
    write(tmp_path, "captions_val2017.json", content)
    [question] = read("coco", tmp_path)
    assert question.answers == ("one", "two")
    assert question.images[0][1] == "val2017/000000000007.jpg"


def test_xgqa_prefers_the_test_file(tmp_path):
    row = {"1": {"imageId": "n1", "question": "Was?", "answer": "dog"}}
    write(tmp_path, "de/dev.json", row)
    assert read("xgqa", tmp_path)[0].extra == {"file": "de/dev.json"}
    write(tmp_path, "zero_shot/testdev_balanced_questions_de.json", row)
    [question] = read("xgqa", tmp_path)
    assert question.extra == {"file": "zero_shot/testdev_balanced_questions_de.json"}
    assert (question.fields, question.answers, question.answer_language) == (
        {"question": "Was?"},
        ("dog",),
        "en",
    )
    assert question.images == ("n1.jpg",)


def test_xvnli_refuses_labels_of_another_kind(tmp_path):
    row = {"gold_label": "perhaps", "sentence2": "x", "Flikr30kID": "1", "pairID": "1r"}
    write(tmp_path, "es/test.jsonl", [row])
    with pytest.raises(UserError, match=r"test.jsonl, line 1: the label 'perhaps' is none of entailment"):
        read("xvnli", tmp_path)


def test_nlvr2(tmp_path):
    rows = [
        {"sentence": "Two dogs.", "label": label, "identifier": f"test1-5-1-{n}"}
        for n, label in enumerate(("True", "False"))
    ]
    write(tmp_path, "test1.json", rows)
    first, second = read("nlvr2", tmp_path)
    assert first.images == ("test1-5-1-img0.png", "test1-5-1-img1.png")
    assert (first.answers, second.answers) == (("yes",), ("no",))


def test_maxm_keeps_yes_no_questions_apart(tmp_path):
    def content(code, question, answer):
        pair = {
            "question_id": "q",
            "question": question,
            "answers": [answer],
            "processed_answers": [answer.lower()],
        }
        return {
            "split": code,
            "annotations": [{"image_id": "i", "qa_pairs": [pair | {"is_collection": False}]}],
        }

    write(tmp_path, "maxm_v1_iw.json", content("iw", "מה זה?", "כלב"))
    write(tmp_path, "maxm_v1_fr.json", content("fr", "Quoi ?", "Chien"))
    write(tmp_path, "yesno_maxm_v1_fr.json", content("fr", "Un chien ?", "Oui"))
    assert [(q.language, q.answers) for q in read("maxm", tmp_path)] == [("fr", ("chien",)), ("he", ("כלב",))]
    assert [(q.language, q.answers) for q in read("maxm-yesno", tmp_path)] == [("fr", ("oui",))]


def test_vqav2_joins_questions_and_answers(tmp_path):
    questions = {
        "data_subtype": "val2014",
        "questions": [{"question_id": 42, "image_id": 9, "question": "What?"}],
    }
    answers = [{"answer": text} for text in ["dog"] * 7 + ["cat"] * 3]
    write(tmp_path, "v2_OpenEnded_mscoco_val2014_questions.json", questions)
    write(
        tmp_path,
        "v2_mscoco_val2014_annotations.json",
        {"annotations": [{"question_id": 42, "answers": answers}]},
    )
    [question] = read("vqav2", tmp_path)
    assert Counter(question.answers) == {"dog": 7, "cat": 3}
    assert question.images[0][0] == "COCO_val2014_000000000009.jpg"
    write(tmp_path, "v2_mscoco_val2014_annotations.json", {"annotations": []})
    with pytest.raises(UserError, match="no answers to question 42"):
        read("vqav2", tmp_path)


def test_aokvqa_direct_and_by_choice(tmp_path):
    row = {
        "split": "val",
        "image_id": 5,
        "question_id": "a",
        "question": "Why?",
        "choices": ["w", "x", "y", "z"],
        "correct_choice_idx": 2,
        "direct_answers": ["y"] * 10,
        "difficult_direct_answer": False,
    }
    hard = row | {"question_id": "b", "difficult_direct_answer": True}
    (tmp_path / "aokvqa_v1p0_val.json").write_text(json.dumps([row, hard]))
    assert [q.id for q in read("aokvqa", tmp_path)] == ["en/a"]
    first, _ = read("aokvqa-choices", tmp_path)
    assert (first.answers, first.choices) == (("C",), ("A", "B", "C", "D"))
    assert first.fields["options"] == "A. w\nB. x\nC. y\nD. z"
    test = {key: value for key, value in row.items() if key not in ("correct_choice_idx", "direct_answers")}
    (tmp_path / "aokvqa_v1p0_val.json").write_text(json.dumps([test]))
    with pytest.raises(UserError, match="does not say which choices are right"):
        read("aokvqa-choices", tmp_path)


def test_popes_three_settings_are_groups(tmp_path):
    for setting in ("random", "popular", "adversarial"):
        rows = [{"question_id": 1, "image": "COCO_val2014_1.jpg", "text": "Is there a dog?", "label": "yes"}]
        write(tmp_path, f"coco_pope_{setting}.json", rows)
    found = read("pope", tmp_path)
    assert [q.group for q in found] == ["random", "popular", "adversarial"]
    assert len({q.id for q in found}) == 3


def test_chair_reads_objects_by_their_synonyms(tmp_path):
    (tmp_path / "synonyms.txt").write_text("person, man, woman\ndog, puppy\n")
    write(tmp_path, "objects.jsonl", [{"image": "1.jpg", "objects": ["dog", "man"]}])
    [question] = read("chair", tmp_path)
    assert question.answers == ("dog", "person")
    write(tmp_path, "objects.jsonl", [{"image": "1.jpg", "objects": ["unicorn"]}])
    with pytest.raises(UserError, match=r"the object 'unicorn' is not in synonyms.txt"):
        read("chair", tmp_path)


def cvqa_row(**changes):
    return {
        "ID": "1",
        "Subset": "('Swahili', 'Kenya')",
        "Question": "Nini?",
        "Options": ["mbwa", "paka"],
        "Label": 1,
        "image": "1.jpg",
    } | changes


def test_cvqa(tmp_path):
    rows = [
        cvqa_row(),
        cvqa_row(ID="2", Subset="('Breton', 'France')"),
        cvqa_row(ID="3", Subset=["Oromo", "Ethiopia"]),
    ]
    write(tmp_path, "test.jsonl", rows)
    found = read("cvqa", tmp_path)
    assert [(q.language, q.group) for q in found] == [
        ("sw", "Swahili, Kenya"),
        ("br", "Breton, France"),
        ("om", "Oromo, Ethiopia"),
    ]
    assert (found[0].answers, found[0].extra["options"]) == (("B",), ["mbwa", "paka"])
    write(tmp_path, "test.jsonl", [cvqa_row(Label=-1)])
    with pytest.raises(UserError, match="the label is -1, and 2 options go from 0: labels that are withheld"):
        read("cvqa", tmp_path)


def test_pictures_inside_parquet_files(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def png(value):
        buffer = io.BytesIO()
        Image.new("RGB", (5, 4), (value, 0, 0)).save(buffer, "PNG")
        return {"bytes": buffer.getvalue(), "path": f"{value}.png"}

    rows = [cvqa_row(ID=str(n), image=png(40 * n)) for n in range(5)]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "test-0.parquet", row_group_size=2)
    found = read("cvqa", tmp_path)
    assert [q.id for q in found] == [f"sw/Kenya/{n}" for n in range(5)]
    pictures = [q.images[0] for q in found]
    assert all(isinstance(picture, ParquetPicture) for picture in pictures)
    assert [picture.load().getpixel((0, 0))[0] for picture in pictures] == [0, 40, 80, 120, 160]
    assert len({picture.key for picture in pictures}) == 5
    assert len(locate(found, []).questions) == 5
    (tmp_path / "test-0.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(UserError, match="no readable Parquet file"):
        read("cvqa", tmp_path)


def test_m5b(tmp_path):
    row = {
        "sample_id": "s",
        "language": "ber",
        "hypothesis": "Zwei Betten.",
        "topic": "bed",
        "label_str": "True",
    }
    row |= {"image_b": "b.jpg", "image_a": "a.jpg", "vertically_stacked_images": "v.jpg"}
    write(tmp_path / "vgr", "test.jsonl", [row])
    [question] = read("m5b-vgr", tmp_path / "vgr")
    assert (question.images, question.answers, question.language) == (("a.jpg", "b.jpg"), ("yes",), "ber")
    with pytest.raises(UserError, match="2 pictures, and M5B-VLOD has 5"):
        read("m5b-vlod", tmp_path / "vgr")
    images = {f"image_{n}": f"{n}.jpg" for n in range(5)}
    row = {"sample_id": "s", "language": "am", "hypothesis": "x", "label": 3, **images}
    write(tmp_path / "vlod", "test.jsonl", [row])
    [question] = read("m5b-vlod", tmp_path / "vlod")
    assert question.answers == ("D",)
    assert [picture_name(name) for name in question.images] == [f"{n}.jpg" for n in range(5)]


def test_babel_imagenet_asks_only_about_named_classes(tmp_path):
    write(tmp_path, "babel_imagenet.json", {"SW": [[0, 999], ["samaki", "mbwa"]], "DE": [[5], ["Rochen"]]})
    lines = [f"n{number:08d}/p{number}.JPEG" for number in reversed(range(1000))]
    (tmp_path / "imagenet_val.txt").write_text("\n".join([*lines, "n00000999/second.JPEG"]))
    found = read("babel-imagenet", tmp_path)
    assert [(q.language, q.answers[0], q.images[0]) for q in found] == [
        ("sw", "samaki", "n00000000/p0.JPEG"),
        ("sw", "mbwa", "n00000999/p999.JPEG"),
        ("sw", "mbwa", "n00000999/second.JPEG"),
        ("de", "Rochen", "n00000005/p5.JPEG"),
    ]
    assert found[0].choices == ("samaki", "mbwa")
    (tmp_path / "imagenet_val.txt").write_text("a/b.JPEG")
    with pytest.raises(UserError, match="pictures of 1 classes, and ImageNet-1k has 1000"):
        read("babel-imagenet", tmp_path)


def test_picto_brings_its_own_questions(tmp_path):
    found = read("picto", tmp_path, ["de"])
    assert Counter(q.group for q in found).keys() == {"caption", "keywords", "yesno", "choice", "statement"}
    assert {q.language for q in found} == {"de"}
    assert {len(q.images) for q in found if q.group == "statement"} == {2}
    assert found[0].prompt


def test_chair_takes_mblips_subset_where_karpathys_splits_lie_beside(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "synonyms.txt").write_text("dog, puppy\nperson, man\n")
    rows = [{"image": f"COCO_val2014_{n:012d}.jpg", "objects": ["dog"]} for n in range(4)]
    segmentation = tmp_path / "segmentation" / "coco_ground_truth_segmentation.json"
    segmentation.parent.mkdir()
    segmentation.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(read("chair", tmp_path)) == 4
    images = [
        {"split": split, "filename": f"COCO_val2014_{n:012d}.jpg"}
        for split, n in (("val", 2), ("test", 1), ("val", 0))
    ]
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    assert [question.id for question in read("chair", tmp_path)] == [
        "en/COCO_val2014_000000000002.jpg",
        "en/COCO_val2014_000000000000.jpg",
    ]
    images.append({"split": "val", "filename": "COCO_val2014_000000000009.jpg"})
    (tmp_path / "dataset_coco.json").write_text(json.dumps({"images": images}))
    with pytest.raises(UserError, match=r"has no objects of 'COCO_val2014_000000000009\.jpg'"):
        read("chair", tmp_path)


def qa90(folder, questions):
    rows = [
        {"question_id": n, "image": "1.jpg", "text": text, "category": "conv"}
        for n, text in enumerate(questions)
    ]
    (folder / "qa90_questions.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    answers = [{"question_id": n, "text": "x"} for n in range(len(questions))]
    (folder / "qa90_gpt4_answer.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))


@pytest.mark.parametrize(
    ("questions", "code"),
    [
        (["Was machen die Leute auf dem Bild?", "Welche Farbe hat das Auto?"], "de"),
        (["What are the people in the picture doing?", "What colour is the car?"], "en"),
        (["图中的人在做什么？", "车是什么颜色的？"], "zh"),
        (["Watu kwenye picha wanafanya nini?", "Gari ni la rangi gani?"], "sw"),
    ],
)
def test_qa90_is_in_the_language_that_it_is_written_in(tmp_path, questions, code):
    qa90(tmp_path, questions)
    assert {question.language for question in read("llava-qa90", tmp_path)} == {code}
    assert [question.id for question in read("llava-qa90", tmp_path, [code])] == [f"{code}/0", f"{code}/1"]
    # Asked for in another language, there is nothing.
    assert not read("llava-qa90", tmp_path, ["ja" if code != "ja" else "ko"])


def test_qa90_without_a_sure_language_wants_it_named(tmp_path):
    qa90(tmp_path, ["42?"])
    with pytest.raises(UserError, match="is not sure: name it with --lang"):
        read("llava-qa90", tmp_path)
    assert [question.language for question in read("llava-qa90", tmp_path, ["eo"])] == ["eo"]


CAPTION = {"sentences": ["Katze"], "id": 1, "img_path": "cat.png"}
# Every code of the 298 languages of Babel-ImageNet that the program reads otherwise than as BCP 47, and some others.
BABEL_CODES = (
    "AB ACW ADY AFB AII ALS ALT ANG ARC ARY AZB BAN BAR BAT_SMG BCL BE_X_OLD BH BJN BXR CCC CDO CHY CKB CRH CSB CU DIN"
    " DIQ DLM DNG DV DZ EML ENM EXT FIU_VRO FRO FRP FRR FUR GAN GMQ_BOT GOT GRC GV HAK HAW HRX IA IK INH IO IU JAM JBO"
    " KAA KBD KG KHB KI KL KMR KOI KRC KSH KUM KV KW KXD LAD LBE LEZ LIJ LMO LTG LZZ MAI MDF MEL MHR MIC MNC MNW MRJ"
    " MWL MYV MZN NAH NAP NCI NDS_NL NEW NOG NON NOV NRM NV OJ OLO ORV OS OTA OVD PAM PAP PCD PDC PDT PMS PNB RMY"
    " ROA_RUP RUE SAH SAT SC SCN SCO SE SH SHI SIMPLE SMJ SMN SMS SNE SRN STQ SVA SYC SZL TCY TPI TT TYV UDM UG UGA VEP"
    " VLS VO WA WAR WUU XAL XMF YUA ZA ZDJ ZH_CLASSICAL ZH_MIN_NAN ZH_YUE"
).split()


def test_folders_named_by_language_and_region(tmp_path):
    for name in ("de", "pt-BR", "zh-CN", "es-419", "sr_Latn_RS", "Bengali"):
        write(tmp_path, f"{name}/test.jsonl", [CAPTION])
    found = [q.language for q in read("xflickrco", tmp_path)]
    assert found == ["bn", "de", "es", "pt", "sr-Latn", "zh"]
    assert [q.language for q in read("xflickrco", tmp_path, ["pt"])] == ["pt"]


def test_two_folders_of_one_language_are_refused(tmp_path):
    for name in ("zh", "zh_Hans"):
        write(tmp_path, f"{name}/test.jsonl", [CAPTION])
    for languages in (None, ["zh"]):
        with pytest.raises(UserError, match=r"'zh' and 'zh_Hans' are both Chinese \('zh'\): keep one"):
            read("xflickrco", tmp_path, languages)


def test_a_folder_of_an_unknown_language_is_refused_unless_others_are_asked_for(tmp_path):
    for name in ("de", "Germna", "backup", ".hidden"):
        write(tmp_path, f"{name}/test.jsonl", [CAPTION])
    with pytest.raises(
        UserError, match=r"2 unknown languages: 'Germna': did you mean 'de'.*'backup'.*--lang"
    ):
        read("xflickrco", tmp_path)
    assert [q.language for q in read("xflickrco", tmp_path, ["de"])] == ["de"]


def test_cvqas_names_of_languages(tmp_path):
    subsets = [
        ("Bengali", "bn"),
        ("Egyptian_Arabic", "arz"),
        ("Filipino", "fil"),
        ("Kinyarwanda", "rw"),
        ("Sinhala", "si"),
    ]
    rows = [cvqa_row(ID=str(n), Subset=str((name, "X"))) for n, (name, _) in enumerate(subsets)]
    write(tmp_path, "test.jsonl", rows)
    assert [q.language for q in read("cvqa", tmp_path)] == [code for _, code in subsets]
    assert [q.language for q in read("cvqa", tmp_path, ["bn"])] == ["bn"]
    write(tmp_path, "test.jsonl", [cvqa_row(Subset="('Bangali', 'India')")])
    with pytest.raises(UserError, match="Unknown language 'Bangali': did you mean 'bn'"):
        read("cvqa", tmp_path)


def test_xm3600_refuses_two_spellings_of_a_language(tmp_path):
    row = {"image/key": "a", "he": {"caption": ["x"]}, "iw": {"caption": ["y"]}}
    write(tmp_path, "captions.jsonl", [row])
    with pytest.raises(UserError, match="line 1': 'he' and 'iw' are both Hebrew"):
        read("xm3600", tmp_path)


def test_babel_imagenets_codes(tmp_path):
    write(
        tmp_path, "babel_imagenet.json", {code: [[0], [code]] for code in ("SQ", "FIL", *BABEL_CODES, "KU")}
    )
    lines = [f"n{number:08d}/p.JPEG" for number in range(1000)]
    (tmp_path / "imagenet_val.txt").write_text("\n".join(lines))
    found = {q.answers[0]: q for q in read("babel-imagenet", tmp_path)}
    assert len(found) == len(BABEL_CODES) + 3
    codes = {name: q.language for name, q in found.items()}
    assert (codes["ALS"], codes["NRM"], codes["ZH_YUE"], codes["SIMPLE"]) == (
        "gsw",
        "nrf",
        "yue",
        "en-simple",
    )
    # KMR comes first here, so that KU is the second spelling.
    assert {name: q.group for name, q in found.items() if q.group} == {"KU": "KU"}
