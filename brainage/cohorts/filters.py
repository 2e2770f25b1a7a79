"""Row filters such as ``CDR != CDR or CDR == 0``: comparisons of columns, never code.

The syntax is that of `pandas.DataFrame.query`. The expression is parsed, every part is checked,
and only the parts known here are computed; nothing is ever passed to an evaluator.
"""

import ast
import io
import operator
import re
import tokenize
from collections.abc import Callable, Mapping
from functools import reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from brainage.errors import CohortError
from brainage.types import BoolArray

MAX_LENGTH = 2000

_Columns = Mapping[str, pd.Series]
_Operator = Callable[[Any, Any], Any]
_ARITHMETIC: Mapping[type[ast.operator], _Operator] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip
_ORDER: Mapping[type[ast.cmpop], _Operator] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_EQUALITY: Mapping[type[ast.cmpop], _Operator] = {ast.Eq: operator.eq, ast.NotEq: operator.ne}
# As in pandas, the signs bind like the words: "CDR == 0 & age > 60" means what it looks like.
_WORDS = {"&": "and", "|": "or", "~": "not"}
_ALLOWED = (
    "Allowed are columns, numbers, 'text', == != < <= > >=, in [...], not in [...], "
    "and, or, not, ( ), + - * /."
)


def select_rows(table: pd.DataFrame, expression: str) -> BoolArray:
    """Rows for which a filter holds.

    Parameters
    ----------
    table : pandas.DataFrame (N, columns)
        Columns of numbers or text; missing cells are NaN. A column whose name is no identifier
        is written with ``_`` for each odd character: ``Age at scan`` is ``Age_at_scan``.
    expression : str
        Comparisons of columns with numbers, text or each other. A missing cell makes every
        comparison false but ``!=`` and ``not in``; so ``CDR != CDR`` finds the rows without CDR.

    Returns
    -------
    numpy.ndarray of bool (N,)

    Raises
    ------
    CohortError
        If the expression holds anything else, names an unknown column, or compares text with
        numbers.
    """
    columns = {re.sub(r"\W", "_", str(name)): table[name] for name in table.columns}
    try:
        result = _evaluate(_parse(expression), columns, table.index)
    except (SyntaxError, ValueError, tokenize.TokenError, MemoryError) as error:
        raise _refuse("is not a filter.") from error
    except (RecursionError, OverflowError) as error:
        raise _refuse("is too long or nested too deeply.") from error
    _expect("truth", result, expression)
    return np.asarray(result, dtype=bool)


def _parse(expression: str) -> ast.expr:
    if len(expression) > MAX_LENGTH:
        raise _refuse(f"has {len(expression)} characters, at most {MAX_LENGTH} are allowed.")
    tokens = tokenize.generate_tokens(io.StringIO(expression.strip()).readline)
    words = [
        (tokenize.NAME, _WORDS[token.string]) if token.string in _WORDS else token[:2]
        for token in tokens
    ]
    return ast.parse(tokenize.untokenize(words).strip(), mode="eval").body


def _evaluate(node: ast.expr, columns: _Columns, index: pd.Index) -> pd.Series:
    """Value of a part of the expression, one for each row; refuses all that is not listed."""
    if isinstance(node, ast.Name):
        return _column(node.id, columns)
    if isinstance(node, ast.Constant):
        return pd.Series(_literal(node), index=index)
    if isinstance(node, ast.UnaryOp):
        return _unary(node, _evaluate(node.operand, columns, index))
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        left, right = (_evaluate(side, columns, index) for side in (node.left, node.right))
        _expect("number", left, ast.unparse(node.left))
        _expect("number", right, ast.unparse(node.right))
        return _ARITHMETIC[type(node.op)](left, right)
    if isinstance(node, ast.BoolOp):
        return _combine(node, columns, index)
    if isinstance(node, ast.Compare):
        return _compare(node, columns, index)
    raise _refuse(f"holds {ast.unparse(node)!r}, which is not allowed.")


def _column(name: str, columns: _Columns) -> pd.Series:
    if name not in columns:
        known = ", ".join(columns)
        raise CohortError("--where", f"there is no column {name!r}.", f"Known columns: {known}.")
    return columns[name]


def _literal(node: ast.expr) -> float | str:
    value = ast.literal_eval(node)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _refuse(f"holds {ast.unparse(node)!r}, which is neither number nor text.")


def _unary(node: ast.UnaryOp, value: pd.Series) -> pd.Series:
    part = ast.unparse(node.operand)
    if isinstance(node.op, ast.Not):
        _expect("truth", value, part)
        return ~value
    if isinstance(node.op, ast.USub):
        _expect("number", value, part)
        return -value
    raise _refuse(f"holds {ast.unparse(node)!r}, which is not allowed.")


def _combine(node: ast.BoolOp, columns: _Columns, index: pd.Index) -> pd.Series:
    parts = [_evaluate(part, columns, index) for part in node.values]
    for value, part in zip(parts, node.values, strict=True):
        _expect("truth", value, ast.unparse(part))
    return reduce(operator.and_ if isinstance(node.op, ast.And) else operator.or_, parts)


def _compare(node: ast.Compare, columns: _Columns, index: pd.Index) -> pd.Series:
    result = pd.Series(True, index=index)
    for (left, right), sign in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
        value = _evaluate(left, columns, index)
        if isinstance(sign, ast.In | ast.NotIn):
            inside = _is_member(value, right)
            result &= ~inside if isinstance(sign, ast.NotIn) else inside
        else:
            result &= _compare_pair(value, sign, _evaluate(right, columns, index), node)
    return result


def _compare_pair(
    left: pd.Series, sign: ast.cmpop, right: pd.Series, node: ast.Compare
) -> pd.Series:
    part = ast.unparse(node)
    if type(sign) in _EQUALITY and _kind(left) == _kind(right) != "truth":
        return _EQUALITY[type(sign)](left, right)
    if type(sign) in _ORDER and _kind(left) == _kind(right) == "number":
        return _ORDER[type(sign)](left, right)
    if {_kind(left), _kind(right)} == {"number", "text"}:
        remedy = "Write text in quotes, numbers without."
        raise CohortError("--where", f"{part!r} compares text with a number.", remedy)
    raise _refuse(f"holds {part!r}, which is not allowed.")


def _is_member(value: pd.Series, node: ast.expr) -> pd.Series:
    if not isinstance(node, ast.List | ast.Tuple | ast.Set) or not node.elts:
        raise _refuse(f"holds {ast.unparse(node)!r}, expected a list such as [0, 0.5].")
    items = [_literal(item) for item in node.elts]
    if any(isinstance(item, str) != (_kind(value) == "text") for item in items):
        problem = f"{ast.unparse(node)} mixes text with numbers, or does not suit the column."
        raise CohortError("--where", problem, "Write text in quotes, numbers without.")
    return value.isin(items)


def _kind(value: pd.Series) -> str:
    if is_bool_dtype(value.dtype):
        return "truth"
    return "number" if is_numeric_dtype(value.dtype) else "text"


def _expect(kind: str, value: pd.Series, part: str) -> None:
    if _kind(value) != kind:
        needed = {"truth": "a comparison", "number": "numbers"}[kind]
        raise _refuse(f"needs {needed} in {part!r}, got {_kind(value)}.")


def _refuse(problem: str) -> CohortError:
    return CohortError("--where", f"the filter {problem}", _ALLOWED)
