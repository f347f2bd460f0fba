"""Take a defence out of the package while it is imported: no source is quoted, and no file is changed.

A removal names a function, a class, a method, an attribute of a class or a constant (`where`), and the expression that
takes its place (`by`), in which `original` stands for what was there. With `what`, the thing named stays, and every use
of the name `what` inside it is replaced.

`removals_site/sitecustomize.py` installs the finder below in every Python that the tests start, kernels among them.
"""

from __future__ import annotations

import ast
import builtins
import copy
import importlib.abc
import importlib.machinery
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType, ModuleType

PACKAGE = "aichat_magic"
VARIABLE = "REMOVED_DEFENCE"
"""Environment variable with the removal, a JSON object with `where`, `what` and `by`.

It does not begin with AICHAT_: the tests take all such variables out of the environment.
"""
ORIGINAL = "original"

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class NothingToRemoveError(Exception):
    """A removal does not fit the package: what it names is not there."""


def remove(source: str, path: str, name: str, what: str, by: str) -> ast.Module:
    """Return the syntax tree of a module without one of its defences.

    Args:
        source: Text of the module.
        path: Its file, for errors.
        name: Function, class or constant, ``Class.method``, ``Class.attribute`` or ``function.inner_function``; empty:
            the module as a whole.
        what: Dotted name (or the end of one, such as ``limit.share``) whose uses inside `name` are replaced: a call
            with its arguments and its `await`, or the name where it is not called. Empty: `name` itself is replaced.
        by: Expression that takes its place; in it, `original` is what was there. Where an error is replaced that is
            raised, the expression is not: ``raise Error`` becomes the expression alone.

    Raises:
        NothingToRemoveError: Nothing has this name, `what` is not used inside it, or `by` uses an unknown name.
    """
    tree = ast.parse(source, path)
    expression = ast.parse(by, mode="eval").body
    if unknown := _used(expression) - _bound(tree) - _bound(expression) - set(dir(builtins)) - {ORIGINAL}:
        raise NothingToRemoveError(f"{path} knows no {', '.join(sorted(unknown))}")
    node: ast.AST = tree
    holder: ast.AST = tree
    for part in name.split(".") if name else ():
        holder, node = node, _found(node, part, path)
    if what:
        swap = _Swap(what, expression)
        swap.visit(node)
        if not swap.count:
            raise NothingToRemoveError(f"{path}: {name or 'the module'} does not use {what}")
    elif isinstance(node, ast.stmt):
        _replace(holder, node, name.rpartition(".")[2], expression)
    else:
        raise NothingToRemoveError(f"{path}: a module is no defence, name something in it")
    return ast.fix_missing_locations(tree)


def _used(tree: ast.AST) -> set[str]:
    """Return the names that are read."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _bound(tree: ast.AST) -> set[str]:
    """Return the names that are given a value anywhere."""
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, _Function | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.alias):
            bound.add(node.asname or node.name.partition(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """Yield the blocks of statements in a scope, those below `if`, `try` and `with` too."""
    for _, value in ast.iter_fields(node):
        if isinstance(value, list):
            if value and isinstance(value[0], ast.stmt):
                yield value
            for child in value:
                if isinstance(child, ast.stmt | ast.ExceptHandler) and not isinstance(child, _Function | ast.ClassDef):
                    yield from _blocks(child)


def _found(scope: ast.AST, name: str, path: str) -> ast.stmt:
    """Return the statement that gives `name` its value; the last one, since overloads come before their function."""
    found: ast.stmt | None = None
    for block in _blocks(scope):
        for statement in block:
            targets: list[ast.expr] = []
            if isinstance(statement, ast.Assign):
                targets = statement.targets
            elif isinstance(statement, ast.AnnAssign):
                targets = [statement.target]
            elif isinstance(statement, _Function | ast.ClassDef) and statement.name == name:
                found = statement
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                found = statement
    if found is None:
        raise NothingToRemoveError(f"{path} has no {name}")
    return found


def _replace(scope: ast.AST, statement: ast.stmt, name: str, expression: ast.expr) -> None:
    """Give `name` another value; `original` is the first one."""

    def instead_of(value: ast.expr) -> ast.expr:
        parameters = ast.arguments(posonlyargs=[], args=[ast.arg(ORIGINAL)], kwonlyargs=[], kw_defaults=[], defaults=[])
        return ast.Call(func=ast.Lambda(args=parameters, body=expression), args=[value], keywords=[])

    if isinstance(statement, ast.Assign):
        statement.value = instead_of(statement.value)
    elif isinstance(statement, ast.AnnAssign):
        statement.value = instead_of(statement.value) if statement.value else expression
    else:
        block = next(block for block in _blocks(scope) if statement in block)
        then = ast.Assign(targets=[ast.Name(name, ast.Store())], value=instead_of(ast.Name(name, ast.Load())))
        block.insert(block.index(statement) + 1, then)


class _Swap(ast.NodeTransformer):
    """Replaces the uses of a name."""

    def __init__(self, what: str, by: ast.expr) -> None:
        self._what = what
        self._by = by
        self.count = 0

    def _is_meant(self, node: ast.AST | None) -> bool:
        if isinstance(node, ast.Call):
            node = node.func
        if not isinstance(node, ast.Name | ast.Attribute) or not isinstance(node.ctx, ast.Load):
            return False
        return f".{ast.unparse(node)}".endswith(f".{self._what}")

    def _swapped(self, node: ast.expr) -> ast.AST:
        if not self._is_meant(node):
            return self.generic_visit(node)
        return self._instead_of(node)

    def _instead_of(self, node: ast.expr) -> ast.expr:
        self.count += 1
        replaced: ast.expr = _Original(node).visit(copy.deepcopy(self._by))
        return replaced

    visit_Call = visit_Attribute = visit_Name = _swapped

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self._instead_of(node) if self._is_meant(node.value) else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if node.exc is None or not self._is_meant(node.exc):
            return self.generic_visit(node)
        return ast.Expr(self._instead_of(node.exc))


class _Original(ast.NodeTransformer):
    """Puts an expression in the place of `original`."""

    def __init__(self, node: ast.expr) -> None:
        self._node = node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self._node) if node.id == ORIGINAL else node


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a module without its defence, and keeps no bytecode of it."""

    def __init__(self, fullname: str, path: str, removal: Mapping[str, str]) -> None:
        super().__init__(fullname, path)
        self._removal = removal

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_source(fullname)
        assert source is not None
        name = self._removal["where"].partition(":")[2]
        tree = remove(source, path, name, self._removal["what"], self._removal["by"])
        return compile(tree, path, "exec", dont_inherit=True)


class Finder(importlib.abc.MetaPathFinder):
    """Finds one module of the package before all others do, and loads it without its defence."""

    def __init__(self, removal: Mapping[str, str]) -> None:
        module = removal["where"].partition(":")[0]
        self._fullname = f"{PACKAGE}.{module}" if module else PACKAGE
        self._removal = removal

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path) if fullname == self._fullname else None
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, self._removal)
        return spec


def install() -> None:
    """Take out, in this process, what the environment names."""
    if text := os.environ.get(VARIABLE):
        sys.meta_path.insert(0, Finder(json.loads(text)))
