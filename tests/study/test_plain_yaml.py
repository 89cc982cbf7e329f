"""A YAML file is read in bounded time and memory, or refused in one line that names it."""

import re
import time

import pytest
import yaml

from stratalaw.study import StudyError, read_study
from stratalaw.study.plain_yaml import MAX_BYTES, MAX_DEPTH, YamlError, parse_yaml, read_yaml


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1\nb: [x, 2.5, true, null]\n",
        "one: &one {a: 1, b: 2}\ntwo: {<<: *one, b: 3}\nthree: *one\n",
        "\ufeffa: ü\n",
    ],
)
def test_plain_yaml_means_what_it_says(tmp_path, text):
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    assert read_yaml(path) == yaml.safe_load(text)


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
WIDE_BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 99)}]\n" for i in range(1, 9))
MERGED_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 99)}]}}\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WIDE_BOMB, "line 4: a3.10: more than 200,000 values, aliases written out"),
        (MERGED_BOMB, "line 4: a3.<<.10: more than 200,000 values, aliases written out"),
        (BOMB, "values, aliases written out"),
        (
            "".join(f"a{i}: &a{i} [*a{i - 1}]\n" if i else "a0: &a0 []\n" for i in range(99)),
            f"a{MAX_DEPTH - 1}: nested more than {MAX_DEPTH} deep",
        ),
        ("a: &a [*a]", "line 1: a.0: an alias within what it stands for"),
        ("a: &a {b: *a}", "line 1: a.b: an alias within what it stands for"),
        ("[" * 100_000, f"line 1: nested more than {MAX_DEPTH} deep"),
        ("- " * 100_000, f"line 1: nested more than {MAX_DEPTH} deep"),
        ("{a: " * 50_000, f"line 1: nested more than {MAX_DEPTH} deep"),
        ("a: 1\nb: 2\na: 3", "line 3: a: the key is in line 1 already"),
        ('grids:\n- bits: [2]\n  "bits": [3]', "line 3: grids.0.bits: the key is in line 2 already"),
        ("[a]: 1", "line 1: a key is a list or a mapping; keys are text"),
        ("a: 2020-13-45", "not YAML: month must be in 1..12"),
        ("a: " + "9" * 5000, "not YAML: Exceeds the limit"),
        ("a: *b", "line 1: not YAML: found undefined alias 'b'"),
        ("a: !!python/object:os.system x", "line 1: not YAML: could not determine a constructor for the tag"),
        ("a: 1\n---\nb: 2", "line 2: not YAML: but found another document"),
        ("a: \a", "not YAML: unacceptable character #x0007"),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_unclear_or_without_bound_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    started = time.process_time()
    with pytest.raises(YamlError) as error:
        read_yaml(path)
    assert time.process_time() - started < 5
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(StudyError, match=re.escape(str(error.value))):
        read_study(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: ü\n".encode("latin-1"), "line 2: not UTF-8; save the file in that encoding"),
        ("a: 1\n".encode("utf-16"), "line 1: not UTF-8; save the file in that encoding"),
        (b"#" * (MAX_BYTES + 1), "larger than 4096 KiB"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_the_name_of_the_file(tmp_path, content, message):
    path = tmp_path / "study.yaml"
    path.write_bytes(content)
    with pytest.raises(YamlError) as error:
        read_yaml(path)
    assert str(error.value) == f"{path}: {message}"


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(YamlError, match=r"absent\.yaml: there is no such file$"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(YamlError, match=rf"^{tmp_path}: Is a directory$"):
        read_yaml(tmp_path)


def test_a_text_is_read_like_a_file():
    assert parse_yaml("{items: 100}") == {"items": 100}
    with pytest.raises(YamlError, match=r"^line 1: not YAML: "):
        parse_yaml("{items: [")
