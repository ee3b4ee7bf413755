"""Owns the few words of Argo's expressions that our templates use, evaluated as Argo does; any other is an error.

or   := and ('||' and)*                    choice := or ('?' choice ':' choice)?
and  := not ('&&' not)*                    not    := ('not' | '!') not | compared
compared := value (('==' | '!=' | '<' | '<=' | '>' | '>=' | 'in') value)?
value := number | 'text' | [value, ...] | asInt(choice) | name(.name | ['name'])* | (choice)
"""

import operator
import re
from collections.abc import Mapping
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|'(?P<text>[^']*)'|(?P<name>[A-Za-z_]\w*)|(?P<sign>&&|\|\||[=!<>]=|[<>!?:()\[\],.]))"
)
_COMPARED = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, found: value in found,
}
_FUNCTIONS = {"asInt": int, "asFloat": float}
_TAG = re.compile(r"\{\{(=?)(.*?)\}\}", re.DOTALL)


def evaluate(expression: str, scope: Mapping[str, Any]) -> Any:
    """Return the value of an expression over `scope`, whose keys are whole dotted names.

    Raises:
        ValueError: for words that this subset does not have, and for names that the scope does not.
    """
    parser = _Parser(expression, scope)
    value = parser.choice()
    if parser.here:
        raise ValueError(f"'{expression}': '{parser.here[1]}' is not expected there")
    return value


def names(expression: str) -> set[str]:
    """Return every dotted name that an expression may read."""
    found: set[str] = set()
    _Parser(expression, _Recorder(found)).choice()
    return found


def substitute(text: str, scope: Mapping[str, Any]) -> str:
    """Return the text with each {{name}} and {{=expression}} replaced; numbers and truth as Argo writes them."""

    def value(match: re.Match[str]) -> str:
        equals, inside = match.groups()
        if not equals and inside.strip() not in scope:
            raise ValueError(f"{{{{{inside}}}}}: there is no such value")
        found = evaluate(inside, scope) if equals else scope[inside.strip()]
        return str(found).lower() if isinstance(found, bool) else str(found)

    return _TAG.sub(value, text)


def references(text: str) -> set[str]:
    """Return every name that the tags in a text read."""
    return {
        name for equals, inside in _TAG.findall(text) for name in (names(inside) if equals else {str(inside).strip()})
    }


class _Recorder(Mapping[str, Any]):
    """A scope that has every name, and remembers which were asked for."""

    def __init__(self, found: set[str]) -> None:
        self.found = found

    def __getitem__(self, name: str) -> str:
        self.found.add(name)
        return "0"

    def __contains__(self, name: object) -> bool:
        return True

    def __iter__(self) -> Any:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)


class _Parser:
    def __init__(self, expression: str, scope: Mapping[str, Any]) -> None:
        self.expression, self.scope, self.at = expression, scope, 0
        self.here: tuple[str, str] | None = None
        self._next()

    def _next(self) -> tuple[str, str]:
        """Step over the word that is here, and return it."""
        was = self.here or ("", "")
        if not self.expression[self.at :].strip():
            self.here = None
            return was
        match = _TOKEN.match(self.expression, self.at)
        if match is None:
            raise ValueError(f"'{self.expression}': '{self.expression[self.at :].strip()}' is not understood")
        self.at = match.end()
        kind = match.lastgroup or ""
        self.here = (kind, match[kind])
        return was

    def _is(self, *words: str) -> bool:
        return self.here is not None and self.here[0] != "text" and self.here[1] in words

    def _take(self, word: str) -> None:
        if not self._is(word):
            raise ValueError(f"'{self.expression}': '{word}' is missing")
        self._next()

    def choice(self) -> Any:
        found = self._or()
        if not self._is("?"):
            return found
        self._next()
        yes = self.choice()
        self._take(":")
        no = self.choice()
        return yes if found else no

    def _or(self) -> Any:
        found = self._and()
        while self._is("||"):
            self._next()
            other = self._and()
            found = found or other
        return found

    def _and(self) -> Any:
        found = self._not()
        while self._is("&&"):
            self._next()
            other = self._not()
            found = found and other
        return found

    def _not(self) -> Any:
        if self._is("not", "!"):
            self._next()
            return not self._not()
        found = self._value()
        if self._is(*_COMPARED):
            compare = _COMPARED[self._next()[1]]
            found = compare(found, self._value())
        return found

    def _value(self) -> Any:
        if self.here is None:
            raise ValueError(f"'{self.expression}': a value is missing")
        kind, word = self._next()
        if kind == "number":
            return float(word) if "." in word else int(word)
        if kind == "text":
            return word
        if word == "(":
            found = self.choice()
            self._take(")")
            return found
        if word == "[":
            return self._list()
        if kind != "name":
            raise ValueError(f"'{self.expression}': '{word}' is not expected there")
        if self._is("("):
            return self._call(word)
        return self._name(word)

    def _list(self) -> list[Any]:
        found = []
        while not self._is("]"):
            found.append(self._value())
            if not self._is("]"):
                self._take(",")
        self._take("]")
        return found

    def _call(self, word: str) -> Any:
        if word not in _FUNCTIONS:
            raise ValueError(f"'{self.expression}': {word}() is not among {', '.join(_FUNCTIONS)}")
        self._take("(")
        found = _FUNCTIONS[word](self.choice())
        self._take(")")
        return found

    def _name(self, word: str) -> Any:
        path = [word]
        while self._is(".", "["):
            bracket = self._next()[1] == "["
            path.append(self._next()[1])
            if bracket:
                self._take("]")
        name = ".".join(path)
        if name not in self.scope:
            raise ValueError(f"'{self.expression}': there is no {name}")
        return self.scope[name]
