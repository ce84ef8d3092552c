"""The mutants of a file: each is one small fault, made by replacing one node of its syntax tree.

    comparisons    < and <=, > and >=, == and !=, is and is not, in and not in
    conditions     `if c` as `if not c`, `not c` as `c`, `and` as `or`, `any` as `all`
    numbers        every integer by one more and one less; + and -, * and //, << and >>, & and |
    statements     a call, a raise, a write to an attribute or an item, a `del` left out
    returns        None where the type allows it, `not x` where it is bool
    the rest       True and False, min and max, two arguments swapped, an element of a collection
                   that is gone through or looked up in left out, `continue` and `break`

Left alone: types, decorators, asserts, log lines, f-strings, `__all__`, and what an error is raised
with.
"""

from __future__ import annotations

import ast
import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

COMPARISONS: Final[dict[type[ast.cmpop], tuple[str, type[ast.cmpop]]]] = {
    ast.Lt: ("lt-to-le", ast.LtE),
    ast.LtE: ("le-to-lt", ast.Lt),
    ast.Gt: ("gt-to-ge", ast.GtE),
    ast.GtE: ("ge-to-gt", ast.Gt),
    ast.Eq: ("eq-to-ne", ast.NotEq),
    ast.NotEq: ("ne-to-eq", ast.Eq),
    ast.Is: ("is-to-is-not", ast.IsNot),
    ast.IsNot: ("is-not-to-is", ast.Is),
    ast.In: ("in-to-not-in", ast.NotIn),
    ast.NotIn: ("not-in-to-in", ast.In),
}
NEGATED: Final = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
"""Whose mutant is the negation already."""
ARITHMETIC: Final[dict[type[ast.operator], tuple[str, type[ast.operator]]]] = {
    ast.Add: ("add-to-sub", ast.Sub),
    ast.Sub: ("sub-to-add", ast.Add),
    ast.Mult: ("mul-to-div", ast.FloorDiv),
    ast.FloorDiv: ("div-to-mul", ast.Mult),
    ast.Div: ("div-to-mul", ast.Mult),
    ast.Mod: ("mod-to-div", ast.FloorDiv),
    ast.Pow: ("pow-to-mul", ast.Mult),
    ast.LShift: ("left-to-right", ast.RShift),
    ast.RShift: ("right-to-left", ast.LShift),
    ast.BitAnd: ("bit-and-to-or", ast.BitOr),
    ast.BitOr: ("bit-or-to-and", ast.BitAnd),
    ast.BitXor: ("xor-to-and", ast.BitAnd),
}
SWAPPED_NAMES: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
GOES_THROUGH: Final = ("all", "any", "sum", "tuple", "list", "set", "frozenset", "chain", "dict")
KEEPS_ORDER: Final = ("isinstance", "issubclass", "getattr", "hasattr", "cast", "min", "max")
"""Functions whose two arguments swapped say nothing: a TypeError, or no change."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault in one file.

    `lines` are those of the replaced node and `statement` those of the statement around it, without
    its body, both first and last; `names` are by what name the rest of the code sees the value, if
    the node is evaluated when its module is imported.
    """

    file: str
    scope: str
    kind: str
    ordinal: int
    start: tuple[int, int]
    end: tuple[int, int]
    text: str
    lines: tuple[int, int]
    statement: tuple[int, int]
    at_import: bool
    names: frozenset[str]

    @property
    def id(self) -> str:
        """What the mutant is called, wherever in its file the scope stands."""
        return f"{self.file}::{self.scope}::{self.kind}::{self.ordinal}"

    def apply(self, source: str) -> str:
        """Return the file's text with this fault in it."""
        rows = source.encode().splitlines(keepends=True)
        (first, left), (last, right) = self.start, self.end
        changed = rows[first - 1][:left] + self.text.encode() + rows[last - 1][right:]
        return b"".join([*rows[: first - 1], changed, *rows[last:]]).decode()

    def diff(self, source: str) -> str:
        """Return what the fault changes, as a unified diff."""
        return "".join(
            difflib.unified_diff(
                source.splitlines(keepends=True),
                self.apply(source).splitlines(keepends=True),
                f"a/{self.file}",
                f"b/{self.file}",
                n=2,
            )
        )


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return all mutants of a file, in the order of its text."""
    finder = _Finder(file)
    finder.visit(ast.parse(source))
    return finder.found


class _Finder(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self.found: list[Mutant] = []
        self._file = file
        self._scope: list[str] = []
        self._ordinals: Counter[tuple[str, str]] = Counter()
        self._statement: ast.stmt | None = None
        self._at_import = True
        self._names: frozenset[str] = frozenset()
        self._returns: ast.expr | None = None

    # Where we are.

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.stmt):
            outer, self._statement = self._statement, node
            super().visit(node)
            self._statement = outer
        else:
            super().visit(node)

    def _visit_all(self, nodes: Sequence[ast.AST | None]) -> None:
        for node in nodes:
            if node is not None:
                self.visit(node)

    @contextmanager
    def _named(self, *names: str) -> Iterator[None]:
        outer, self._names = self._names, frozenset(names)
        yield
        self._names = outer

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        with self._named(node.name):
            self._visit_all(node.body)
        self._scope.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.append(node.name)
        with self._named(node.name):
            # Defaults are evaluated where the function is defined.
            self._visit_all([*node.args.defaults, *node.args.kw_defaults])
            outer = self._at_import, self._returns
            self._at_import, self._returns = False, node.returns
            self._visit_all(node.body)
            self._at_import, self._returns = outer
        self._scope.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def _emit(self, node: ast.expr | ast.stmt, kind: str, new: ast.expr | str) -> None:
        if isinstance(new, str):
            text = new
        else:
            text = ast.unparse(ast.fix_missing_locations(new))
            if (
                not isinstance(new, ast.Name | ast.Tuple | ast.List | ast.Set)
                and not text.isalnum()
            ):
                text = f"({text})"
        scope = ".".join(self._scope) or "<module>"
        statement = self._statement
        assert statement is not None, "every node stands in a statement"
        body = getattr(statement, "body", None)
        self.found.append(
            Mutant(
                file=self._file,
                scope=scope,
                kind=kind,
                ordinal=self._ordinals[scope, kind],
                start=(node.lineno, node.col_offset),
                end=(node.end_lineno or node.lineno, node.end_col_offset or 0),
                text=text,
                lines=(node.lineno, node.end_lineno or node.lineno),
                statement=(
                    statement.lineno,
                    max(statement.lineno, body[0].lineno - 1)
                    if body
                    else statement.end_lineno or statement.lineno,
                ),
                at_import=self._at_import,
                names=self._names,
            )
        )
        self._ordinals[scope, kind] += 1

    # Left alone.

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None: ...
    def visit_Assert(self, node: ast.Assert) -> None: ...
    def visit_Import(self, node: ast.Import) -> None: ...
    def visit_ImportFrom(self, node: ast.ImportFrom) -> None: ...

    # Conditions.

    def _condition(self, test: ast.expr) -> None:
        if isinstance(test, ast.Constant):
            return
        match test:
            case ast.UnaryOp():
                negated = True
            case ast.Compare(ops=[op]):
                negated = isinstance(op, NEGATED)
            case _:
                negated = False
        if not negated:
            self._emit(test, "negate", ast.UnaryOp(ast.Not(), test))
        self.visit(test)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._condition(node.test)
        self._visit_all([*node.body, *node.orelse])

    def visit_While(self, node: ast.While) -> None:
        self._condition(node.test)
        self._visit_all([*node.body, *node.orelse])

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self._visit_all([node.body, node.orelse])

    def visit_comprehension(self, node: ast.comprehension) -> None:
        self._elements(node.iter)
        self.visit(node.iter)
        for test in node.ifs:
            self._condition(test)

    def visit_match_case(self, node: ast.match_case) -> None:
        if node.guard is not None:
            self._condition(node.guard)
        self._visit_all(node.body)

    def visit_Compare(self, node: ast.Compare) -> None:
        for at, op in enumerate(node.ops):
            kind, other = COMPARISONS[type(op)]
            ops = [*node.ops[:at], other(), *node.ops[at + 1 :]]
            self._emit(node, kind, ast.Compare(node.left, ops, node.comparators))
            if isinstance(op, ast.In | ast.NotIn):
                self._elements(node.comparators[at])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        kind, other = (
            ("and-to-or", ast.Or()) if isinstance(node.op, ast.And) else ("or-to-and", ast.And())
        )
        self._emit(node, kind, ast.BoolOp(other, node.values))
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._emit(node, "not-left-out", node.operand)
        elif isinstance(node.op, ast.USub):
            self._emit(node, "minus-left-out", node.operand)
        self.generic_visit(node)

    # Numbers and other values.

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if not (_is_text(node.left) or _is_text(node.right)):
            kind, other = ARITHMETIC.get(type(node.op), (None, ast.Add))
            if kind is not None:
                self._emit(node, kind, ast.BinOp(node.left, other(), node.right))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if node.value is True:
            self._emit(node, "true-to-false", "False")
        elif node.value is False:
            self._emit(node, "false-to-true", "True")
        elif isinstance(node.value, int):
            self._emit(node, "constant-plus-1", ast.Constant(node.value + 1))
            self._emit(node, "constant-minus-1", ast.Constant(node.value - 1))

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name in SWAPPED_NAMES:
            other = SWAPPED_NAMES[name]
            self._emit(node.func, f"{name}-to-{other}", other)
        if name in GOES_THROUGH and len(node.args) == 1:
            self._elements(node.args[0])
        match node.args:
            case [ast.Name() | ast.Attribute() as one, ast.Name() | ast.Attribute() as two] if (
                not node.keywords and name not in KEEPS_ORDER and ast.dump(one) != ast.dump(two)
            ):
                self._emit(node, "swap-arguments", ast.Call(node.func, [two, one], []))
        self._visit_all([node.func, *node.args])
        for keyword in node.keywords:
            with self._named(*([keyword.arg] if keyword.arg else self._names)):
                self.visit(keyword.value)

    def _elements(self, node: ast.expr) -> None:
        """Leave each element of a collection out that is gone through or looked up in."""
        if isinstance(node, ast.Tuple | ast.List | ast.Set) and len(node.elts) > 1:
            for at in range(len(node.elts)):
                rest = [*node.elts[:at], *node.elts[at + 1 :]]
                text = ", ".join(ast.unparse(each) for each in rest)
                opening, closing = {ast.Tuple: ("(", ",)"), ast.List: ("[", "]")}.get(
                    type(node), ("{", "}")
                )
                self._emit(node, "element-left-out", opening + text + closing)

    # Statements.

    def visit_Expr(self, node: ast.Expr) -> None:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Call):
            callee = ast.unparse(value.func)
            if any(part.strip("_") in {"log", "logger"} for part in callee.split(".")):
                return
            if callee != "super().__init__":
                self._emit(node, "call-left-out", "pass")
        self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        self._emit(node, "raise-left-out", "pass")

    def visit_Delete(self, node: ast.Delete) -> None:
        self._emit(node, "delete-left-out", "pass")

    def visit_Assign(self, node: ast.Assign) -> None:
        if (
            not self._at_import
            and self._scope[-1] != "__init__"
            and all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets)
        ):
            self._emit(node, "write-left-out", "pass")
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if names == ["__all__"]:
            return
        self._assigned(names, node.value)
        self._visit_all([each for each in node.targets if not isinstance(each, ast.Name)])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            names = [node.target.id] if isinstance(node.target, ast.Name) else []
            self._assigned(names, node.value)

    def _assigned(self, names: list[str], value: ast.expr) -> None:
        with self._named(*(names if self._at_import and names else self._names)):
            if self._at_import:
                self._elements(value)
            self.visit(value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._emit(node, "write-left-out", "pass")
        kind, other = ARITHMETIC.get(type(node.op), (None, ast.Add))
        if kind is not None and not _is_text(node.value):
            new = ast.AugAssign(node.target, other(), node.value)
            self._emit(node, kind, ast.unparse(new))
        self.visit(node.value)

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self._elements(node.iter)
        self._visit_all([node.iter, *node.body, *node.orelse])

    visit_AsyncFor = visit_For

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is not None:
            self._elements(node.type)
        self._visit_all(node.body)

    def visit_Return(self, node: ast.Return) -> None:
        value = node.value
        if value is None or (isinstance(value, ast.Constant) and value.value is None):
            return
        if _allows_none(self._returns):
            self._emit(value, "return-none", "None")
        if _is_bool(self._returns) and not isinstance(value, ast.Constant):
            self._condition(value)
        else:
            self.visit(value)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._emit(node, "continue-to-break", "break")
        self._emit(node, "continue-left-out", "pass")

    def visit_Break(self, node: ast.Break) -> None:
        self._emit(node, "break-to-continue", "continue")


def _is_text(node: ast.expr) -> bool:
    """Return whether + only puts this together with its like."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | bytes)
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple | ast.ListComp)


def _allows_none(returns: ast.expr | None) -> bool:
    if isinstance(returns, ast.BinOp) and isinstance(returns.op, ast.BitOr):
        return _allows_none(returns.left) or _allows_none(returns.right)
    if isinstance(returns, ast.Constant):
        return returns.value is None
    return False


def _is_bool(returns: ast.expr | None) -> bool:
    return isinstance(returns, ast.Name) and returns.id == "bool"
