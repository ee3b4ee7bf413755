"""The part of Argo's expressions that our templates use."""

import pytest

from tools.argo_expression import evaluate, names, references, substitute

SCOPE = {"a.b": "75", "a.c-d": "", "retries": "4", "true": True, "false": False}


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("asInt(a.b) in [2, -1, 75]", True),
        ("not (asInt(a.b) in [2, 3]) && retries == '4'", True),
        ("!(asInt(retries) < 5) || a['c-d'] != ''", False),
        ("a['c-d'] == '' ? 'none' : a.b", "none"),
        ("asFloat(a.b) >= 75.0 && asInt(retries) <= 4", True),
        ("true == true", True),
        # '&&' binds before '||'.
        ("true || false && false", True),
        ("'a || b' == 'a || b'", True),
    ],
)
def test_values(expression, value):
    assert evaluate(expression, SCOPE) == value


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("a.x == ''", "there is no a.x"),
        ("sprig.trim(a.b)", "there is no sprig.trim"),
        ("len(a.b)", "len() is not among asInt, asFloat"),
        ("a.b ==", "a value is missing"),
        ("(a.b == ''", "')' is missing"),
        ("a.b a.b", "is not expected there"),
        ("a.b matches '7'", "is not expected there"),
        ("a.b ~ 1", "is not understood"),
    ],
)
def test_anything_else_is_an_error(expression, said):
    with pytest.raises(ValueError, match=r".") as error:
        evaluate(expression, SCOPE)
    assert said in str(error.value)


def test_tags():
    text = "--x={{a.b}} {{=a['c-d'] == '' ? 'none' : retries}} {{= a.b == '75' }}"
    assert substitute(text, SCOPE) == "--x=75 none true"
    assert references(text) == {"a.b", "a.c-d", "retries"} and names("a['c-d'] in [retries]") == {"a.c-d", "retries"}
    with pytest.raises(ValueError, match="there is no such value"):
        substitute("{{a.x}}", SCOPE)
