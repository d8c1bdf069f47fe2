"""Collects the messages that a user of enginery can meet, by reading its source.

What is a message:
1. The first argument of every error that is made: EngineryError, the classes below it, and those
   of `_KINDS`, whose words end up in such an error. Where an error is raised whose class the
   source does not tell, its first argument counts too.
2. What stands in a place that tests/message_places.py lists: verdicts, doit's failures, warnings,
   standard error, and functions whose results are told.
3. What these lead to: a local variable leads to what is assigned to it, a parameter to what the
   callers give, a function to what it returns, a constant to its text. So a phrase that is put
   into a message is collected as well, where it has `_PHRASE` words or more.

What commands print as their answer, such as the table of `doit corpus`, and the words of `--help`
are no messages.

A message becomes a template: what is known only when it happens is a placeholder in braces, named
after the expression. Two templates are the same where their fixed words are.

Nothing slips through unseen: a message in a form that no rule follows, and a text in a `raise`
that no rule led to, are in `Collector.unread`, which a test wants empty.
"""

from __future__ import annotations

import ast
import builtins
import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from message_places import FIELDS, in_fields, is_told, makes_an_error, sink
from message_syntax import (
    FunctionNode,
    Scope,
    alternatives,
    argument,
    assigned,
    gives_text,
    imports,
    is_text,
    key_of,
    last_name,
    parameters,
    placeholder,
    returned,
    walk,
    words_in,
)

_ROOT = "EngineryError"
_KINDS = {"ValueError", "TypeError", "CudaError"}
_NO_KINDS = {  # for callers, with words of Python's own
    name
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, OSError | AttributeError)
}
_PASSED_ON = {
    "self._down": "what made a scheduler unreachable, told again",
    "self.message": "what the error said on the worker that built",  # messages that are written elsewhere
    "reply['message']": "what the error said in the process that built",
    "self._useless[what]": "what made a registry useless, told again",
}
_PHRASE = 3  # words from which on a part of a message is worth an entry of its own
_SHORT = {"TLS failed: {}", "refuses to {}", "refuses to {} ({})"}  # that are worth one, too
_NO_MESSAGE = re.compile(  # what comes along: names of things, patterns, examples
    r"the (calibration cache|local store)( {.*)?|.*\|.*|could not find any implementation|min = .*"
)
_PASSING = {"str", "one_line", "repr", "sorted", "tuple", "list", "next", "filter", "format"}
_OF_OBJECT = {"format", "get", "items", "split", "strip", "values"}
_MANY = 64  # more variants than this of one message would be no list that anybody reads


@dataclass(frozen=True)
class Message:
    """One message of the source: its template, and where it is written."""

    template: str
    module: str
    line: int

    @property
    def place(self) -> tuple[str, int]:
        return self.module, self.line


@dataclass
class Collector:
    """Every message below a folder of Python modules, by fixed words; see the head of the file."""

    source: Path
    messages: dict[str, Message] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._modules = {
            path.relative_to(self.source).as_posix(): ast.parse(path.read_text("utf-8"))
            for path in sorted(self.source.rglob("*.py"))
        }
        self._nodes = [
            found for name, tree in self._modules.items() for found in walk(tree, Scope(name))
        ]
        self._errors = self._error_classes()
        self._functions: dict[str, list[Scope]] = {}
        self._calls: dict[str, list[tuple[ast.Call, Scope]]] = {}
        for node, scope in self._nodes:
            if isinstance(node, FunctionNode):
                self._functions.setdefault(node.name, []).append(scope.inside(node))
            elif isinstance(node, ast.Call):
                self._calls.setdefault(last_name(node.func), []).append((node, scope))
        self._read: set[int] = set()
        self._direct: set[int] = set()
        self._followed: set[tuple[int, bool]] = set()
        self._waiting: list[tuple[ast.expr, Scope, bool]] = []
        self._collect()

    def _collect(self) -> None:
        classes = [node for node, _ in self._nodes if isinstance(node, ast.ClassDef)]
        of_errors = {
            id(node) for one in classes if one.name in self._errors for node in ast.walk(one)
        }
        for node, scope in self._nodes:
            if (expression := self._message_of(node)) is not None:
                self._direct.add(id(expression))
                self._follow(expression, scope, whole=True)
            elif id(node) in of_errors and makes_an_error(node):
                self._follow(node.args[0], scope, whole=True)
            elif isinstance(node, FunctionNode) and is_told(node, scope.module):
                for value in returned(node):
                    self._follow(value, scope.inside(node), whole=True)
            for value in in_fields(node):
                self._follow(value, scope, whole=False)
        while self._waiting:
            self._keep(*self._waiting.pop())
        for node, scope in self._nodes:
            if isinstance(node, ast.Raise) and self._is_of_ours(node):
                self.unread += self._unread_in(node, scope)

    # Which expressions are messages.

    def _error_classes(self) -> set[str]:
        known = {_ROOT}
        classes = [node for node, _ in self._nodes if isinstance(node, ast.ClassDef)]
        for _ in classes:
            known |= {c.name for c in classes if {last_name(base) for base in c.bases} & known}
        return known | _KINDS

    def _is_of_ours(self, node: ast.Raise) -> bool:
        return isinstance(node.exc, ast.Call) and last_name(node.exc.func) not in _NO_KINDS

    def _message_of(self, node: ast.AST) -> ast.expr | None:
        call = node.exc if isinstance(node, ast.Raise) else node
        if not isinstance(call, ast.Call):
            return None
        name, place = last_name(call.func), sink(call)
        if name in self._errors:
            place = 0
        elif isinstance(node, ast.Raise) and name not in self._functions.keys() | _NO_KINDS:
            place = 0  # an error of a class that a variable holds
        return call.args[place] if place is not None and len(call.args) > place else None

    # Where an expression leads.

    def _follow(self, expression: ast.expr, scope: Scope, *, whole: bool) -> None:
        """Read `expression` later: a whole message, or only a part of one."""
        spot = (id(expression), whole)
        if spot not in self._followed:
            self._followed.add(spot)
            self._waiting.append((expression, scope, whole))

    def _keep(self, expression: ast.expr, scope: Scope, whole: bool) -> None:
        for template in itertools.islice(self._texts(expression, scope, whole), _MANY):
            text = " ".join(template.split())
            long_enough = words_in(text) >= (1 if whole else _PHRASE) or key_of(text) in _SHORT
            if long_enough and not _NO_MESSAGE.fullmatch(text):
                message = Message(text, scope.module, expression.lineno)
                self.messages.setdefault(key_of(text), message)

    def _texts(self, node: ast.expr, scope: Scope, whole: bool) -> Iterator[str]:
        self._read.add(id(node))
        match node:
            case ast.Constant(value=constant):
                yield from [constant] if isinstance(constant, str) else []
            case ast.JoinedStr(values=values):
                yield from _product(self._part(value, scope) for value in values)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                yield from _product(self._part(side, scope) for side in (left, right))
            case ast.Name(id=name):
                self._named(name, scope, whole)
            case ast.Attribute(attr=name) if name in FIELDS and name in self._functions:
                self._follow_results(name, scope, whole)
            case ast.Call():
                yield from self._called(node, scope, whole)
            case _ if values := alternatives(node):
                for value in values:
                    yield from self._texts(value, scope, whole)
            case _:
                self._give_up(node, scope)

    def _part(self, node: ast.expr, scope: Scope) -> list[str]:
        """The texts that stand for a part of a template; a placeholder where it is not known."""
        value = node.value if isinstance(node, ast.FormattedValue) else node
        if isinstance(value, ast.Constant):
            return [str(value.value)]
        if isinstance(value, ast.JoinedStr | ast.BinOp) and is_text(value):
            return list(self._texts(value, scope, False))
        if isinstance(value, ast.IfExp) and is_text(value):
            return [*self._part(value.body, scope), *self._part(value.orelse, scope)]
        if isinstance(value, ast.Name) and (text := self._constant(value.id, scope.module)):
            return list(self._texts(text, Scope(scope.module), False))
        self._follow(value, scope, whole=False)
        return ["{" + placeholder(value) + "}"]

    def _named(self, name: str, scope: Scope, whole: bool) -> None:
        for depth in range(len(scope.functions), 0, -1):
            function = scope.functions[depth - 1]
            values = list(assigned(function, name))
            for value in values:
                self._follow(value, Scope(scope.module, scope.functions[:depth]), whole=whole)
            if name in parameters(function):
                # A constructor is called by its class; rule 1 has those of errors.
                calls = [] if function.name == "__init__" else self._calls.get(function.name, [])
                for call, where in calls:
                    if (given := argument(call, function, name)) is not None:
                        self._follow(given, where, whole=whole)
                return
            if values:
                return
        if (text := self._constant(name, scope.module)) is not None:
            self._follow(text, Scope(scope.module), whole=whole)

    def _constant(self, name: str, module: str) -> ast.expr | None:
        """The text that a constant of this module, or one that it imports, stands for."""
        tree = self._modules[module]
        for one in self._modules.values() if imports(tree, name) else [tree]:
            values = list(assigned(one, name))
            if len(values) == 1 and is_text(values[0]):
                return values[0]
        return None

    def _called(self, call: ast.Call, scope: Scope, whole: bool) -> Iterator[str]:
        name = last_name(call.func)
        if isinstance(call.func, ast.Attribute) and name == "join":
            yield from self._texts(call.args[0], scope, whole)
        elif isinstance(call.func, ast.Attribute) and name in _OF_OBJECT:
            for value in (call.func.value, *call.args[1:]):
                yield from self._texts(value, scope, whole)
        elif name in _PASSING:
            for value in call.args:
                yield from self._texts(value, scope, whole)
        elif name in self._functions:
            self._follow_results(name, scope, whole)
        elif name not in self._errors:
            self._give_up(call, scope)

    def _follow_results(self, name: str, scope: Scope, whole: bool) -> None:
        """A function of this module, or every one of that name where there is none."""
        found = self._functions[name]
        here = [function for function in found if function.module == scope.module]
        for function in here or found:
            for value in returned(function.functions[-1]):
                if gives_text(function.functions[-1]):
                    self._follow(value, function, whole=whole)

    # What no rule could read.

    def _give_up(self, node: ast.expr, scope: Scope) -> None:
        # What a message only mentions, or what a followed function returns, may be anything.
        if id(node) in self._direct and ast.unparse(node) not in _PASSED_ON:
            self.unread.append(f"{scope.module}:{node.lineno}: {ast.unparse(node)}")

    def _unread_in(self, raised: ast.Raise, scope: Scope) -> Iterator[str]:
        call = raised.exc
        if isinstance(call, ast.Call) and last_name(call.func) in self._errors and not call.args:
            yield f"{scope.module}:{call.lineno}: {ast.unparse(call)}"
        texts = [node for node in ast.walk(raised) if isinstance(node, ast.JoinedStr)]
        parts = {id(part) for text in texts for part in ast.walk(text) if part is not text}
        for node in ast.walk(raised):
            if isinstance(node, ast.Constant | ast.JoinedStr) and is_text(node):
                text = ast.unparse(node)
                if id(node) not in self._read | parts and words_in(text) >= _PHRASE:
                    yield f"{scope.module}:{node.lineno}: {text}"


def _product(parts: Iterable[list[str]]) -> Iterator[str]:
    return map("".join, itertools.product(*parts))
