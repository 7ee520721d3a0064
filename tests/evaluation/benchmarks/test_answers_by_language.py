"""Answers in the languages of the benchmarks: letters, options by their text, yes and no, and what denies."""

import json
from importlib.resources import files

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polylens.answer_words import answer_words
from polylens.evaluation.benchmarks.answers import parse_choice, parse_label
from polylens.languages import LANGUAGES, language

TABLE = json.loads(files("polylens").joinpath("answer_words.json").read_text(encoding="utf-8"))
# Of xGQA, XVNLI, MaRVL, MaXM, xFlickrCO, XM3600, CVQA and M5B.
BENCHMARK_LANGUAGES = (
    "bn de en id ko pt ru zh ar es fr sw ta tr ja fa fi fil he hi hr hu it mi nl no pl quz ro sv te th uk vi cs da"
    " el br bg arz ig ga jv rw ms mr min mn om si su ur am ber ha zu"
).split()
OPTIONS = ["dog", "cat", "bird", "fish"]
LABELS = ("yes", "no", "maybe")


def test_every_benchmarks_language_has_words_of_its_own():
    assert set(TABLE) <= set(LANGUAGES)
    assert {language(code).code for code in BENCHMARK_LANGUAGES} <= set(TABLE)
    for row in TABLE.values():
        assert list(row) == ["yes", "no", "maybe", "denials", "phrases"]
        assert all(row.values())


@pytest.mark.parametrize("code", sorted(TABLE))
def test_letters_after_the_answer_is(code):
    for phrase in TABLE[code]["phrases"]:
        for form in ("{} B", "{}: B.", "{}：B", "{} (B)", "{}: **B**"):
            for known in (code, ""):
                assert parse_choice(form.format(phrase), OPTIONS, known) == 1, (form, phrase)
        assert parse_choice(f"{phrase} B, C", OPTIONS, code) is None


@pytest.mark.parametrize("code", sorted(TABLE))
def test_yes_and_no(code):
    row = TABLE[code]
    for label in LABELS:
        for word in row[label]:
            assert parse_label(word, LABELS, False, code) == label
            assert parse_label(f"{word.upper()}!", LABELS, False, code) == label
            assert parse_label(f"{row['phrases'][0]} {word}", LABELS, False, code) == label
            # Without the language a word that means another thing elsewhere is not read.
            assert parse_label(word, LABELS, False) in (label, None)
            assert parse_label(word, LABELS, True, code) in (None, word if word in LABELS else None)
    assert parse_label(f"{row['yes'][0]}, {row['no'][0]}", LABELS, False, code) is None


@pytest.mark.parametrize("code", sorted(TABLE))
def test_what_is_denied_is_no_answer(code):
    for word in TABLE[code]["denials"]:
        assert parse_choice(f"dog {word}", OPTIONS, code) is None
        # This one turns to what follows it.
        if word != "아니라":
            assert parse_choice(f"{word} dog", OPTIONS, code) is None


def test_a_language_without_words_takes_those_of_its_relative():
    assert answer_words("zh-Hant") == answer_words("zh")
    assert answer_words("tlh") == answer_words("en")


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("A cat", 1),
        ("Answer: A cat", 1),
        ("The answer is A cat.", 1),
        ("A, B", None),
        ("A. dog is wrong; the answer is B", None),
        ("There is no dog", None),
        ("The answer is B", 1),
        ("It is a cat", 1),
        ("答案是B", 1),
        ("答案：B", 1),
        ("选B", 1),
        ("正确答案是（B）", 1),
        ("Die Antwort ist B", 1),
        ("Jibu ni B", 1),
        ("Option B", 1),
        ("B", 1),
        ("(b)", 1),
        ("b)", 1),
        ("[B]", 1),
        ("B.", 1),
        ("Ｂ", 1),
        ("Ⓑ", 1),
        ("②", 1),
        ("㊁", 1),
        ("（2）", 1),
        ("Б", 1),
        ("Ответ: Б", 1),
        ("Правильный ответ — Б.", 1),
        ("ب", 1),
        ("الجواب هو ب", 1),
        ("الإجابة: (ب)", 1),
        ("ב", 1),
        ("התשובה היא ב", 1),
        ("ख", 1),
        ("उत्तर: ख", 1),
        ("सही विकल्प ख है।", 1),
        ("B सही है", 1),
        ("B सही नहीं है", None),
        ("جواب ب ہے", 1),
        ("پاسخ ب است", 1),
        ("पर्याय ख आहे", 1),
        ("সঠিক উত্তর হল খ", 1),
        ("나", 1),
        ("정답은 나입니다", 1),
        ("정답은 B입니다", 1),
        ("정답: ②", 1),
        ("ㄴ", 1),
        ("イ", 1),
        ("答えはイです", 1),
        ("答えはBです。", 1),
        ("正解はB", 1),
        ("ข", 1),
        ("คำตอบคือ ข", 1),
        ("ตอบ B", 1),
        ("乙", 1),
        ("**B**", 1),
        ("\\boxed{B}", 1),
        ("B. cat", 1),
        ("B: cat", 1),
        ("B) a cat", 1),
        ("B. dog", None),
        ("A or B", None),
        ("Both A and B", None),
        ("not B", None),
        ("The answer is not B", None),
        ("It is not a dog, it is a cat.", 1),
        ("不是狗，是猫", None),
        ("La respuesta es B", 1),
        ("La respuesta correcta es la B", 1),
        ("A resposta é B", 1),
        ("La réponse est B", 1),
        ("Odpowiedź: B", 1),
        ("Cevap: B", 1),
        ("Doğru cevap B", 1),
        ("Đáp án là B", 1),
        ("Câu trả lời là B", 1),
        ("Jawabannya adalah B", 1),
        ("Vastaus on B", 1),
        ("Svaret är B", 1),
        ("Απάντηση: Β", 1),
        ("Hindi ito aso", None),
        ("None of them", None),
        ("none", None),
        ("cat or dog", None),
        ("I choose B", 1),
        ("B is correct", 1),
        ("B选项", 1),
        ("选项B正确", 1),
        ("The answer is A because it barks", 0),
        ("A", 0),
        ("a", 0),
        ("a)", 0),
        ("A.", 0),
        ("E", None),
        ("Gato", None),
        ("the answer is b", 1),
        ("B\n\nThe picture shows a cat", 1),
        ("The cat sits.\nAnswer: B", 1),
        ("2", None),
        ("2)", 1),
        ("Option 2", 1),
        ("A dog", 0),
        ("catfish", None),
        ("Sahihi ni B", None),
        ("the correct answer is (B) cat", 1),
        ("It isn't a dog", None),
        ("B, not A", None),
        ("Answer B", 1),
        ("answer is A, dog", 0),
        ("vitamin C", None),
        ("I", None),
        ("Não é um dog", None),
        ("Letra B", 1),
        ("Respuesta: b)", 1),
        ("The correct option is B: cat", 1),
        ("Option (B)", 1),
        ("Answer is: B", 1),
        ("<answer>B</answer>", 1),
        ("Ans: B", 1),
        ("B。猫", 1),
        ("B、猫", 1),
        ("B：猫", 1),
        ("「B」", 1),
        ("答えは「B」です", 1),
        ("Bです", 1),
        ("B입니다", 1),
        ("B번", 1),
        ("2번", 1),
        ("الإجابة الصحيحة هي (ب) قطة", 1),
        ("খ", 1),
        ("(খ)", 1),
        ("Neither a dog nor a cat", None),
        ("The answer is not A, it is B", None),
        ("I don't know", None),
        ("Ответ: В", 2),
        ("Г", 3),
        ("γ", 2),
        ("Γ)", 2),
        ("Ա", 0),
        ("ა", 0),
        ("د", 3),
        ("A cat is an animal.", 1),
        ("b, c", None),
        ("A/B", None),
        ("A & B", None),
        ("ABCD", None),
        ("A B C D", None),
        ("B?", 1),
        ("It could be A or B.", None),
        ("Cats", None),
        ("Option B is correct.", 1),
        ("Choice B", 1),
        ("La réponse correcte est B.", 1),
        ("Die richtige Antwort ist (B).", 1),
        ("Richtig ist B", 1),
        ("정답: B", 1),
        ("답은 B입니다.", 1),
        ("回答：B", 1),
        ("正确选项是B。", 1),
        ("应该选B", 1),
        ("故选B。", 1),
        ("因此答案为B。", 1),
        ("所以选择B", 1),
        ("ตอบ: B", 1),
        ("ข้อ B", 1),
        ("ข้อ ข", 1),
        ("คำตอบที่ถูกต้องคือ B", 1),
        ("बी", None),
        ("उत्तर B है", 1),
        ("सही उत्तर (B) है।", 1),
        ("விடை: B", 1),
        ("సమాధానం: B", 1),
        ("ಉತ್ತರ B", 1),
        ("উত্তর: B", 1),
        ("ਜਵਾਬ B", 1),
        ("Àmọ́ B", None),
        ("Ìdáhùn: B", 1),
        ("Azịza ya bụ B", 1),
        ("Amsar ita ce B", 1),
        ("Igisubizo ni B", 1),
        ("Deebiin isaa B", 1),
        ("መልሱ B ነው", 1),
        ("ትክክለኛው መልስ ለ", 1),
        ("Ang sagot ay B", 1),
        ("Jawapannya ialah B", 1),
        ("Wangsulane yaiku B", 1),
        ("Respont: B", 1),
        ("Is é an freagra B", 1),
        ("Răspunsul corect este B", 1),
        ("Правилният отговор е B", 1),
        ("Отговор: Б", 1),
        ("Svaret er B", 1),
        ("Het antwoord is B", 1),
        ("Хариулт: B", 1),
        ("پاسخ: ب", 1),
        ("جواب: B", 1),
        ("No dog", None),
        ("Not a dog", None),
        ("a cat", 1),
        ("The answer: the cat", 1),
        ('"B"', 1),
        ("option b", 1),
        ("(ii)", None),
        ("Both dog and cat", None),
        ("It's B.", None),
        ("All of the above", None),
        ("None of the above", None),
        ("dog.", 0),
        ("DOG", 0),
        ("the DOG!", 0),
        ("doghouse", None),
        ("hotdog", None),
        ("dog-like", 0),
    ],
)
def test_choices(text, place):
    assert parse_choice(text, OPTIONS) == place


@pytest.mark.parametrize(
    ("text", "options", "code", "place"),
    [
        ("यह जलेबी है", ["जल", "दूध", "चाय", "रस"], "", None),
        ("चाँदी की थाली", ["चाँद", "तारा", "सूरज", "धरती"], "", None),
        ("এটা কলা", ["কল", "আম", "জাম", "লিচু"], "", None),
        ("ఇది పాలు", ["పాల", "నీరు", "నూనె", "తేనె"], "", None),
        ("हे घड्याळ आहे", ["घड", "फूल", "पान", "झाड"], "", None),
        ("这是猫。", ["狗", "猫", "鸟", "鱼"], "", 1),
        ("นี่คือแมว", ["หมา", "แมว", "นก", "ปลา"], "", 1),
        ("これは猫です", ["犬", "猫", "鳥", "魚"], "", 1),
        ("这是熊猫。", ["狗", "猫", "鸟", "鱼"], "", None),
        ("不是狗，是猫", ["狗", "猫", "鸟", "鱼"], "", 1),
        ("不是狗而是猫", ["狗", "猫", "鸟", "鱼"], "", 1),
        ("这不是猫", ["狗", "猫"], "", None),
        ("没有狗", ["狗", "猫"], "", None),
        ("犬ではありません", ["犬", "猫"], "", None),
        ("犬ではなく猫です", ["犬", "猫"], "", 1),
        ("이것은 고양이입니다", ["개", "고양이"], "", 1),
        ("개가 아니라 고양이입니다", ["개", "고양이"], "", 1),
        ("개가 아닙니다", ["개", "고양이"], "", None),
        ("यह बिल्ली है", ["कुत्ता", "बिल्ली"], "", 1),
        ("यह बिल्ली नहीं है", ["कुत्ता", "बिल्ली"], "", None),
        ("هذه القطة", ["كلب", "قطة"], "", 1),
        ("هذه القِطَّة", ["كلب", "قطة"], "", 1),
        ("זה חָתוּל", ["כלב", "חתול"], "", 1),
        ("ليس كلب", ["كلب", "قطة"], "", None),
        ("Es ist keine Katze", ["Hund", "Katze"], "", None),
        ("Das ist ein Hund.", ["Hund", "Katze"], "", 0),
        ("No hay perro", ["perro", "gato"], "", None),
        ("Hakuna mbwa", ["mbwa", "paka"], "", None),
        ("Ni paka", ["mbwa", "paka"], "", 1),
        ("ဒါက ကြောင်ပါ", ["ခွေး", "ကြောင်"], "", 1),
        ("នេះគឺឆ្មា", ["ឆ្កែ", "ឆ្មា"], "", 1),
        ("ホットドッグです", ["ドッグ", "キャット"], "", None),
        ("แมวน้ำ", ["หมา", "แมว"], "", None),
        ("hot dog", ["dog", "hot dog"], "", 1),
        ("a hot dog and a dog", ["dog", "hot dog"], "", None),
        ("1,000", ["1,000", "2,000"], "", 0),
        ("none of them", ["dog", "none of them"], "", 1),
        ("(B) no", ["yes", "no"], "", 1),
        ("Нет собаки", ["собака", "собаки"], "", None),
        ("Это не собака, а кошка", ["собака", "кошка"], "", 1),
        ("The answer is 2", ["two", "three"], "", None),
        ("B. B. King", ["A", "B. B. King"], "", 1),
        ("大象", ["大象", "象"], "", 0),
        ("É um gato", ["cão", "gato"], "", 1),
        ("O gato", ["cão", "gato"], "", 1),
        ("A macska", ["kutya", "macska"], "", 1),
        ("A gata", ["cadela", "gata"], "", 1),
        ("a", ["x", "y"], "", 0),
        ("Es gibt keinen Hund, sondern eine Katze", ["Hund", "Katze"], "de", 1),
        ("Si mbwa", ["mbwa", "paka"], "sw", None),
        ("Ni mbwa", ["mbwa", "paka"], "sw", 0),
        ("Bu bir köpek değil", ["köpek", "kedi"], "tr", None),
        ("Nem kutya", ["kutya", "macska"], "hu", None),
        ("No és un gos", ["gos", "gat"], "ca", None),
        ("A kutya", ["kutya", "macska"], "hu", 0),
        ("É a gata", ["cão", "gata"], "pt", 1),
        ("A letra B", ["x", "y"], "pt", 1),
        ("O correto é a letra B", ["x", "y"], "pt", 1),
        ("यह कुत्ता नहीं, बिल्ली है", ["कुत्ता", "बिल्ली"], "hi", 1),
        ("ไม่ใช่หมา", ["หมา", "แมว"], "th", None),
        ("แมวกำลังนอน", ["หมา", "แมว"], "th", 1),
        ("Đó không phải là con chó", ["con chó", "con mèo"], "vi", None),
        ("café", ["café", "thé"], "", 0),
        ("CAFÉ", ["café", "thé"], "", 0),
        ("ＣＡＴ", OPTIONS, "", 1),
        ("Straße", ["STRASSE", "Weg"], "", 0),
        ("3", ["2", "3", "4", "5"], "", 1),
        ("three", ["two", "three"], "", 1),
        ("The answer is 3", ["2", "3", "4", "5"], "", 1),
        ("(2)", ["1", "2", "3", "4"], "", 1),
        ("2", ["4", "3", "2", "1"], "", 2),
        ("(2)", ["4", "3", "2", "1"], "", 2),
        ("अ", ["x", "y"], "", 0),
        ("ब", ["x", "y"], "", 1),
        ("क", ["x", "y"], "", 0),
    ],
)
def test_options_by_their_text(text, options, code, place):
    assert parse_choice(text, options, code) == place


@pytest.mark.parametrize(
    ("text", "code", "label"),
    [
        ("Yes", "", "yes"),
        ("да", "", "yes"),
        ("はい", "", "yes"),
        ("はい、そうです。", "", "yes"),
        ("いいえ", "", "no"),
        ("هل هناك كلب؟ نعم", "", "yes"),
        ("Hapana", "", "no"),
        ("No, it isn't", "", "no"),
        ("yes or no", "", None),
        ("either no or yes", "", None),
        ("It is not certain: maybe", "", "maybe"),
        ("Yes, it is.", "", "yes"),
        ("I do not know", "", None),
        ("nothing", "", None),
        ("not yes", "", None),
        ("Нет, это кошка", "", "no"),
        ("是的，有狗", "", "yes"),
        ("不是", "", "no"),
        ("这是一只狗", "", None),
        ("不，这不是狗", "", "no"),
        ("ใช่ครับ", "", "yes"),
        ("ไม่ใช่", "", "no"),
        ("Ja, das stimmt", "", "yes"),
        ("Nein", "", "no"),
        ("네, 맞습니다.", "", "yes"),
        ("아니요", "", "no"),
        ("Sí", "", "yes"),
        ("Oui, bien sûr", "", "yes"),
        ("Evet", "", "yes"),
        ("Hayır", "", "no"),
        ("हाँ", "", "yes"),
        ("नहीं", "", "no"),
        ("না", "", "no"),
        ("হ্যাঁ", "", "yes"),
        ("Ja, nein", "", None),
        ("The answer is yes", "", "yes"),
        ("Die Antwort ist ja", "", "yes"),
        ("Antwort: nein", "", "no"),
        ("да или нет", "", None),
        ("Có", "", "yes"),
        ("Không", "", "no"),
        ("ஆம்", "", "yes"),
        ("இல்லை", "", "no"),
        ("כן", "", "yes"),
        ("לא", "", "no"),
        ("نه", "", "no"),
        ("بله", "", "yes"),
        ("ναι", "", "yes"),
        ("Όχι", "", "no"),
        ("Tidak", "", "no"),
        ("Ya", "", "yes"),
        ("Yes.", "", "yes"),
        ("yes, yes", "", "yes"),
        ("Yes - there is", "", "yes"),
        ("Oui.", "fr", "yes"),
        ("Non, il n'y a pas de chien", "fr", "no"),
        ("هل يوجد كلب؟ نعم، يوجد كلب", "ar", "yes"),
        ("لا، لا يوجد", "ar", "no"),
        ("नहीं, यह सच नहीं है", "hi", "no"),
        ("Nee", "nl", "no"),
        ("Ndiyo, kuna mbwa", "sw", "yes"),
        ("No lo sé", "es", None),
        ("I can't say yes", "", None),
        ("Is it a dog? Yes", "", "yes"),
        ("是", "zh", "yes"),
        ("是的。", "zh", "yes"),
        ("對", "zh-Hant", "yes"),
        ("没有", "zh", "no"),
        ("ですか？はい", "ja", "yes"),
        ("ใช่ มีสุนัข", "th", "yes"),
        ("yes; no", "", None),
        ("Maybe.", "", "maybe"),
        ("vielleicht", "de", "maybe"),
        ("peut-être", "fr", "maybe"),
        ("Да, конечно", "ru", "yes"),
        ("ДА", "ru", "yes"),
        ("Да. Нет.", "ru", None),
        ("Hindi", "fil", "no"),
        ("Oo", "fil", "yes"),
        ("Ba", "ha", None),
        ("A'a", "ha", "no"),
        ("Não", "pt", "no"),
        ("Sim, há um cão", "pt", "yes"),
        ("true", "", None),
        ("Not sure", "", None),
        ("noir", "fr", None),
        ("yesterday", "", None),
        ("I would say no.", "", "no"),
        ("There is no dog", "", None),
        ("Sí, no hay gato", "es", "yes"),
        ("No hay perro", "es", None),
        ("No, no hay perro", "es", "no"),
        ("Anjing itu tidak hitam", "id", None),
    ],
)
def test_labels(text, code, label):
    assert parse_label(text, LABELS, False, code) == label


@settings(max_examples=100, deadline=None)
@given(
    st.text(max_size=40), st.lists(st.text(max_size=12), max_size=5), st.sampled_from(["", *sorted(TABLE)])
)
def test_any_text_is_read_or_left(text, options, code):
    place = parse_choice(text, options, code)
    assert place is None or 0 <= place < len(options)
    assert parse_label(text, LABELS, False, code) in (None, *LABELS)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(
        [("B", 1), ("c", 2), ("Ｂ", 1), ("Ⓓ", 3), ("Б", 1), ("ب", 1), ("ख", 1), ("나", 1), ("ข", 1)]
    ),
    st.sampled_from(["{}", "({})", "[{}]", " {}.\n", "**{}**", "“{}”", "{})", "（{}）"]),
)
def test_a_letter_in_its_trappings_is_read(letter, frame):
    assert parse_choice(frame.format(letter[0]), OPTIONS) == letter[1]


@settings(max_examples=60, deadline=None)
@given(
    st.permutations("ABCD"),
    st.sampled_from(["{}, {}", "{} or {}", "({}) ({})", "{}. no, {}", "The answer is {} or {}"]),
)
def test_two_letters_are_no_answer(letters, frame):
    assert parse_choice(frame.format(*letters), OPTIONS) is None


@pytest.mark.parametrize("word", ["कल", "কল", "கல", "కల", "ಕಲ", "കല", "කල"])
def test_a_word_with_another_vowel_sign_is_another_word(word):
    signs = {0x0900: "ि", 0x0980: "া", 0x0B80: "ி", 0x0C00: "ి", 0x0C80: "ಿ", 0x0D00: "ി", 0x0D80: "ි"}
    sign = signs[ord(word[0]) & ~0x7F]
    assert parse_choice(f"x {word} y", [word, "z"]) == 0
    assert parse_choice(f"x {word}{sign} y", [word, "z"]) is None
    assert parse_choice(f"{word}{sign}", [word, "z"]) is None
