"""Questions that tests/messages.py asks of a Python syntax tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef

_PLACEHOLDER = re.compile(r"\{[^{}]*\}")
# A word of prose: no identifier, no path, no part of a media type.
_WORD = re.compile(r"(?<![^\s(`'])[A-Za-z]{2,}(?![^\s,.;:)`'])")


@dataclass(frozen=True)
class Scope:
    """Where an expression stands: its module, and the functions around it, innermost last."""

    module: str
    functions: tuple[FunctionNode, ...] = ()

    def inside(self, node: ast.AST) -> Scope:
        """The scope of what is inside `node`, which stands here."""
        if isinstance(node, FunctionNode):
            return Scope(self.module, (*self.functions, node))
        return self


def walk(tree: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
    """Every node below `tree`, with its scope."""
    for child in ast.iter_child_nodes(tree):
        yield child, scope
        yield from walk(child, scope.inside(child))


def key_of(template: str) -> str:
    """What two spellings of a message have in common: its fixed words."""
    return _PLACEHOLDER.sub("{}", template)


def words_in(template: str) -> int:
    """How many words of prose a template fixes."""
    return len(_WORD.findall(key_of(template)))


def last_name(node: ast.expr) -> str:
    """The name that an expression ends with: `c` of `a.b.c`."""
    return getattr(node, "attr", None) or getattr(node, "id", None) or ""


def own_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node below `tree` that is not inside a function or class of its own."""
    for child in ast.iter_child_nodes(tree):
        if not isinstance(child, FunctionNode | ast.ClassDef | ast.Lambda):
            yield child
            yield from own_nodes(child)


def assigned(tree: ast.AST, name: str) -> Iterator[ast.expr]:
    """What the variable `name` is made of right in `tree`: assignments, loops, additions."""
    for node in own_nodes(tree):
        match node:
            case (
                ast.Assign(targets=[target], value=value)
                | ast.For(target=target, iter=value)
                | ast.comprehension(target=target, iter=value)
            ):
                names = [one.id for one in ast.walk(target) if isinstance(one, ast.Name)]
            case (
                ast.AnnAssign(target=ast.Name(id=target_name), value=ast.expr() as value)
                | ast.NamedExpr(target=ast.Name(id=target_name), value=value)
                | ast.AugAssign(target=ast.Name(id=target_name), value=value)
                | ast.Call(
                    func=ast.Attribute(
                        value=ast.Name(id=target_name), attr="append" | "extend" | "insert"
                    ),
                    args=[*_, value],
                )
            ):
                names = [target_name]
            case _:
                continue
        if name in names:
            yield value


def returned(function: FunctionNode) -> Iterator[ast.expr]:
    """What a function returns or yields."""
    for node in own_nodes(function):
        if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) and node.value is not None:
            yield node.value


def gives_text(function: FunctionNode) -> bool:
    """Whether a function may return text, as far as its annotation tells."""
    return function.returns is None or "str" in ast.unparse(function.returns)


def parameters(function: FunctionNode) -> list[str]:
    """The names of a function's parameters, in the order of a call."""
    found = function.args
    names = [one.arg for one in (*found.posonlyargs, *found.args, *found.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def argument(call: ast.Call, function: FunctionNode, parameter: str) -> ast.expr | None:
    """What a call gives for a parameter."""
    named = (one.value for one in call.keywords if one.arg == parameter)
    place = parameters(function).index(parameter)
    return next(named, call.args[place] if place < len(call.args) else None)


def imports(tree: ast.Module, name: str) -> bool:
    """Whether a module imports `name` from another one."""
    found = (node for node in tree.body if isinstance(node, ast.ImportFrom))
    return any(alias.name == name for node in found for alias in node.names)


def is_text(node: ast.AST) -> bool:
    """Whether an expression is written as text, or as a collection of texts."""
    match node:
        case ast.Constant(value=value):
            return isinstance(value, str)
        case ast.JoinedStr():
            return True
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return is_text(left) or is_text(right)
        case ast.IfExp(body=body, orelse=other):
            return is_text(body) and is_text(other)
        case ast.Tuple(elts=values) | ast.List(elts=values) | ast.Dict(values=values):
            return any(map(is_text, values))
    return False


def alternatives(node: ast.expr) -> list[ast.expr]:
    """The expressions that one stands for, each of them a text of its own."""
    match node:
        case ast.IfExp(body=body, orelse=other):
            return [body, other]
        case ast.BoolOp(values=values) | ast.Tuple(elts=values) | ast.List(elts=values):
            return values
        case ast.Dict(values=values):
            return values
        case ast.GeneratorExp(elt=value) | ast.ListComp(elt=value) | ast.NamedExpr(value=value):
            return [value]
        case ast.Starred(value=value) | ast.Subscript(value=ast.Name() as value):
            return [value]
    return []


def placeholder(node: ast.expr) -> str:
    """What a reader calls the value of an expression."""
    inner: ast.expr | None = None
    match node:
        case ast.Name(id=name):
            return name.strip("_").lower()
        case ast.Attribute(value=value, attr="name" | "value" | "strerror" | "stem"):
            inner = value
        case ast.Attribute(attr=name):
            return name.strip("_")
        case ast.Call(args=[first, *_]) | ast.BoolOp(values=[first, *_]):
            inner = first
        case ast.Call(func=ast.Attribute(value=value)) | ast.Call(func=value):
            inner = value
        case ast.Subscript(value=value) | ast.BinOp(left=value) | ast.Starred(value=value):
            inner = value
        case ast.GeneratorExp(elt=value):
            inner = value
    return "…" if inner is None else placeholder(inner)
