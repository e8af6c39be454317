"""How rows are asked, how choices are read off answers, and the files byte by byte."""

from __future__ import annotations

import json

import pytest

from raekit.errors import UserError
from raekit.evaluate.benchmark_forms import BENCHMARKS, IN_THE_PICTURE, LETTER, SHORT, Predicted, is_picture, letter_of

CHOICES = ("a dog", "a cat", "two cats", "none")

ROWS = {
    "mme": {
        "question_id": "count/1.jpg",
        "question": "Two? Please answer yes or no.",
        "answer": "Yes",
        "category": "count",
    },
    "textvqa": {"question_id": 7, "question": "what is written?"},
    "ai2d": {"question": "which?", "options": ["a", "b", "c", "d"], "answer": "2"},
    "seed": {"question_id": "5_0", "question": "who?", **{f"choice_{x}": x * 2 for x in "abcd"}, "answer": "B"},
    "mmmu": {
        "id": "validation_Art_Theory_12",
        "question": "Which of <image 2> and <image 1>?",
        "options": "['this', '<image 3>']",
        "question_type": "multiple-choice",
        "answer": "B",
        "image_1": "one",
        "image_2": "two",
        "image_3": "three",
        "image_4": None,
    },
    "mmmu_pro": {"id": "test_Art_1", "options": "['x', 'y']", "answer": "A", "image": "whole", "subject": "Art"},
}


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        ("B", "B"),
        ("b.", "B"),
        ("(C) two cats", "C"),
        ("D: none of them", "D"),
        ("A cat.", "B"),
        ("a cat", "B"),
        ("The answer is C.", "C"),
        ("a bird", None),
        ("A or B", None),
        ("A dog, so B", "B"),
        ("E", None),
        ("", None),
    ],
)
def test_the_choice_that_an_answer_names(answer: str, letter: str | None) -> None:
    assert letter_of(answer, CHOICES) == letter


def test_an_open_question_has_no_letter() -> None:
    assert letter_of("I think it is J", [str(number) for number in range(10)]) == "J"
    assert letter_of("A", ()) is None


def test_questions_are_worded_as_published() -> None:
    asked = {name: BENCHMARKS[name].ask({"image": "picture", **row}) for name, row in ROWS.items()}
    assert asked["mme"][:2] == ("Two? Please answer yes or no.", ("picture",))
    assert asked["textvqa"].text == f"what is written?\n{SHORT}"
    assert asked["ai2d"].text == f"which?\nA. a\nB. b\nC. c\nD. d\n{LETTER}"
    assert asked["seed"].text == f"who?\nA. aa\nB. bb\nC. cc\nD. dd\n{LETTER}"
    # Each mark of a picture is that picture, in the order of the marks.
    assert asked["mmmu"].text == f"Which of <image> and <image>?\nA. this\nB. <image>\n{LETTER}"
    assert asked["mmmu"].pictures == ("two", "one", "three")
    assert asked["mmmu_pro"] == (IN_THE_PICTURE, ("whole",), ("x", "y"))
    open_row = {**ROWS["mmmu"], "options": "[]", "question": "How many in <image 1>?"}
    assert BENCHMARKS["mmmu"].ask(open_row)[:2] == (f"How many in <image>?\n{SHORT}", ("one",))


def test_rows_that_cannot_be_asked() -> None:
    with pytest.raises(UserError, match="mentions image_4, which it lacks"):
        BENCHMARKS["mmmu"].ask({**ROWS["mmmu"], "question": "<image 4>?"})
    with pytest.raises(UserError, match="its options are no list"):
        BENCHMARKS["mmmu"].ask({**ROWS["mmmu"], "options": "this or that"})


def files(name: str, *pairs: tuple[dict, str]) -> dict[str, str]:
    """Contents of a benchmark's files for rows and answers."""
    benchmark = BENCHMARKS[name]
    predicted = [
        Predicted(row, place, benchmark.ask({"image": "picture", **row}), answer)
        for place, (row, answer) in enumerate(pairs)
    ]
    return benchmark.files(predicted, "nano")


def test_mme_has_two_lines_a_picture_in_a_file_a_category() -> None:
    first, other = ROWS["mme"], {**ROWS["mme"], "question_id": "count/2.jpg"}
    found = files("mme", (first, "yes\tof\ncourse"), (other, "no"), ({**first, "answer": "No"}, "no"), (other, "yes"))
    question = "Two? Please answer yes or no."
    assert found == {
        "count.txt": f"1.jpg\t{question}\tYes\tyes of course\n1.jpg\t{question}\tNo\tno\n"
        f"2.jpg\t{question}\tYes\tno\n2.jpg\t{question}\tYes\tyes\n"
    }
    with pytest.raises(UserError, match="mme, count: 1 questions about 'count/1.jpg', and MME's tool counts in twos"):
        files("mme", (first, "yes"))


def test_the_other_files() -> None:
    assert files("textvqa", (ROWS["textvqa"], "stop")) == {
        "textvqa.json": '[{"question_id": 7, "answer": "stop"}]\n',
    }
    assert json.loads(files("ai2d", (ROWS["ai2d"], "C"))["ai2d.jsonl"]) == {
        "question_id": 0,
        "prompt": f"which?\nA. a\nB. b\nC. c\nD. d\n{LETTER}",
        "answer": "C",
        "gt_answer": "2",
        "model_id": "nano",
    }
    seed = files("seed", (ROWS["seed"], "B. bb"), ({**ROWS["seed"], "question_id": "3_0"}, "who knows"))
    assert seed == {
        "seed.jsonl": '{"question_id": "5_0", "prediction": "B"}\n{"question_id": "3_0", "prediction": "who knows"}\n'
    }


def test_mmmu_by_subject_and_as_a_whole() -> None:
    open_row = {**ROWS["mmmu"], "id": "validation_Art_Theory_13", "options": [], "question_type": "open", "answer": "4"}
    found = files("mmmu", (ROWS["mmmu"], "(A)"), (open_row, "about 4"))
    choice, number = json.loads(found["Art_Theory/output.json"])
    assert choice == {
        "id": "validation_Art_Theory_12",
        "question_type": "multiple-choice",
        "answer": "B",
        "all_choices": ["A", "B"],
        "index2ans": {"A": "this", "B": "<image 3>"},
        "response": "(A)",
    }
    assert number == {
        "id": "validation_Art_Theory_13",
        "question_type": "open",
        "answer": "4",
        "response": "about 4",
    }
    answers = json.loads(found["answers.json"])
    assert answers == {"validation_Art_Theory_12": "A", "validation_Art_Theory_13": "about 4"}
    with pytest.raises(UserError, match="the id 'x' names no subject"):
        files("mmmu", ({**ROWS["mmmu"], "id": "x"}, "A"))


def test_mmmu_pro_keeps_the_row_without_its_pictures() -> None:
    row = ROWS["mmmu_pro"]
    (found,) = files("mmmu_pro", (row, "A")).items()
    assert found[0] == "nano_vision_direct.jsonl"
    kept = {key: value for key, value in row.items() if key != "image"}
    assert json.loads(found[1]) == {**kept, "response": "A"}
    standard = {**row, "question": "in <image 1>?", "image_1": "one"}
    (name,) = files("mmmu_pro", (standard, "A"))
    assert name == "nano_standard_direct.jsonl"
    with pytest.raises(UserError, match="standard and vision rows in one file"):
        files("mmmu_pro", (standard, "A"), (row, "A"))


def test_fields_with_pictures() -> None:
    assert [is_picture(field) for field in ("image", "images", "image_7", "image_type", "img")] == [True] * 3 + [
        False
    ] * 2
