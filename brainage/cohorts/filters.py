"""Select rows by filters such as ``CDR != CDR or CDR == 0``: comparisons of columns, never code.

The filter is parsed, every part is checked against what is allowed here, and only then is the
checked tree written out again for `pandas.DataFrame.query`.
"""

import ast
import io
import keyword
import re
import tokenize
import unicodedata
from collections.abc import Mapping

import numpy as np
import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from brainage.errors import CohortError
from brainage.types import MISSING_CODES, BoolArray

MAX_LENGTH = 2000

# As in pandas, the signs bind like the words: "CDR == 0 & age > 60" means what it looks like.
_WORDS = {"&": "and", "|": "or", "~": "not"}
_ALLOWED = (
    "Allowed are columns, numbers, 'text', == != < <= > >=, in [...], not in [...], "
    "and, or, not, ( ), + - * /."
)
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_NEEDED = {"truth": "a comparison", "number": "numbers"}


def select_rows(table: pd.DataFrame, expression: str) -> BoolArray:
    """Select the rows for which a filter holds.

    Parameters
    ----------
    table : pandas.DataFrame (N, columns)
        Columns of numbers or text; missing cells are NaN. A column whose name is no identifier
        is written with ``_`` for each odd character: ``Age at scan`` is ``Age_at_scan``, and with
        one in front where that is still none: ``31-0.0`` is ``_31_0_0``, ``class`` is ``_class``.
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
    written = [_write_name(name) for name in table.columns]
    columns = {name: table.iloc[:, place] for place, name in enumerate(written)}
    try:
        tree = _parse(expression)
        _refuse_ambiguous(tree, table.columns.tolist(), written)
        _expect("truth", tree, {name: _kind_of(column) for name, column in columns.items()})
        rows = pd.DataFrame(columns).reset_index(drop=True)
        kept = rows.query(ast.unparse(_Plain().visit(tree)), engine="python").index
    except (SyntaxError, ValueError, tokenize.TokenError, MemoryError) as error:
        raise _refuse("is not a filter.") from error
    except (RecursionError, ArithmeticError) as error:
        raise _refuse("is too long, nested too deeply, or divides by zero.") from error
    return np.isin(np.arange(len(table)), kept)


def named_columns(table: pd.DataFrame, expression: str) -> list[str]:
    """Return the columns that a filter which `select_rows` took names."""
    named = {node.id for node in ast.walk(_parse(expression)) if isinstance(node, ast.Name)}
    return [name for name in table.columns if _write_name(name) in named]


def kept_codes(table: pd.DataFrame, expression: str, kept: BoolArray) -> str:
    """Ask about numbers, in rows that a filter kept, which may stand for a missing value.

    ``mmse > 24`` keeps 999, ``cdr < 0.5`` keeps -9.

    Examples
    --------
    >>> table = pd.DataFrame({"cdr": [0, 0.5, 1, -9]})
    >>> kept_codes(table, "cdr < 0.5", select_rows(table, "cdr < 0.5"))
    'rows with cdr -9 are kept: is that a missing one?'
    """
    found = []
    for name in named_columns(table, expression):
        if not is_numeric_dtype(table[name]) or is_bool_dtype(table[name]):
            continue
        numbers = table[name].dropna()
        others = numbers[~numbers.isin(MISSING_CODES)]
        low, high = others.min(), others.max()
        for code in MISSING_CODES:
            is_far = low >= 0 > code or 0 <= high < code / 2
            if is_far and (table.loc[kept, name] == code).any():
                found.append(f"{name} {code}")
    return f"rows with {', '.join(found)} are kept: is that a missing one?" if found else ""


def unknown_texts(table: pd.DataFrame, expression: str) -> str:
    """Say which texts of a filter that `select_rows` took no cell has; empty where all are there.

    ``dx != 'ad'`` leaves nobody out where the column says AD.

    Examples
    --------
    >>> unknown_texts(pd.DataFrame({"dx": ["AD", "CN"]}), "dx != 'ad' and dx != 'CN'")
    "no cell of dx is 'ad'; it holds AD, CN."
    """
    columns = {_write_name(name): table[name] for name in table}
    told = []
    for part in ast.walk(_parse(expression)):
        within = list(ast.walk(part)) if isinstance(part, ast.Compare) else []
        names = [node.id for node in within if isinstance(node, ast.Name)]
        texts = {node.value for node in within if isinstance(node, ast.Constant)}
        cells = {cell for name in names for cell in columns[name].dropna()}
        if lacking := sorted(text for text in texts - cells if isinstance(text, str)):
            held = [*map(str, sorted(cells, key=str)[:5]), *(["…"] if len(cells) > 5 else [])]
            listed = " or ".join(map(repr, lacking))
            told.append(f"no cell of {', '.join(names)} is {listed}; it holds {', '.join(held)}.")
    return " ".join(told)


def _write_name(name: object) -> str:
    """Return the identifier by which a filter names a column; Python's letters are NFKC."""
    written = re.sub(r"\W", "_", unicodedata.normalize("NFKC", str(name)))
    return written if written.isidentifier() and not keyword.iskeyword(written) else f"_{written}"


def _refuse_ambiguous(tree: ast.expr, names: list[str], written: list[str]) -> None:
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and written.count(node.id) > 1:
            meant = [
                repr(name) for name, form in zip(names, written, strict=True) if form == node.id
            ]
            raise _refuse(f"could mean {' or '.join(meant)} by {node.id!r}; rename one.")


def _parse(expression: str) -> ast.expr:
    if len(expression) > MAX_LENGTH:
        raise _refuse(f"has {len(expression)} characters, at most {MAX_LENGTH} are allowed.")
    tokens = tokenize.generate_tokens(io.StringIO(expression.strip()).readline)
    words = [
        (tokenize.NAME, _WORDS[token.string]) if token.string in _WORDS else token[:2]
        for token in tokens
    ]
    return ast.parse(tokenize.untokenize(words).strip(), mode="eval").body


class _Plain(ast.NodeTransformer):
    """Write all numbers as floats and all collections as lists."""

    def visit(self, node: ast.AST) -> ast.AST:
        """Replace a number or a collection; leave other parts, and look into them."""
        if isinstance(node, ast.Constant) and not isinstance(node.value, str):
            return ast.Constant(float(str(node.value)))
        if isinstance(node, ast.Tuple | ast.Set):
            node = ast.List(node.elts, ast.Load())
        return self.generic_visit(node)


def _kind(node: ast.expr, kinds: Mapping[str, str]) -> str:
    """Kind of a part's values: truth, number or text; refuse all that is not allowed."""
    if isinstance(node, ast.Name):
        if node.id not in kinds:
            remedy = f"Known columns: {', '.join(kinds)}."
            raise CohortError("--where", f"there is no column {node.id!r}.", remedy)
        return kinds[node.id]
    if isinstance(node, ast.Constant) and type(node.value) in (str, int, float):
        return "text" if isinstance(node.value, str) else "number"
    if isinstance(node, ast.Compare):
        for pair in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            _check_comparison(*pair, kinds)
        return "truth"
    kind, operands = _operands(node)
    for operand in operands:
        _expect(kind, operand, kinds)
    return kind


def _operands(node: ast.expr) -> tuple[str, list[ast.expr]]:
    """Kind that an operator works on and gives, and what it stands between."""
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return "truth", [operand]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return "number", [operand]
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            return "number", [left, right]
        case ast.BoolOp(values=operands):
            return "truth", operands
    raise _refuse(f"holds {ast.unparse(node)!r}, which is not allowed.")


def _check_comparison(
    left: ast.expr, sign: ast.cmpop, right: ast.expr, kinds: Mapping[str, str]
) -> None:
    """Refuse a comparison of unlike things, of no column, or by another sign."""
    part, others = ast.unparse(ast.Compare(left, [sign], [right])), [right]
    if isinstance(sign, ast.In | ast.NotIn):
        others = right.elts if isinstance(right, ast.List | ast.Tuple | ast.Set) else []
        for item in others:
            ast.literal_eval(item)
        if not others:
            raise _refuse(f"holds {ast.unparse(right)!r}, expected a list such as [0, 0.5].")
    found = {_kind(side, kinds) for side in (left, *others)}
    if found == {"number", "text"}:
        problem = f"{part!r} compares or mixes text with numbers."
        raise CohortError("--where", problem, "Write text in quotes, numbers without.")
    parts = (node for side in (left, *others) for node in ast.walk(side))
    has_column = any(isinstance(node, ast.Name) for node in parts)
    allowed = {"number"} if isinstance(sign, _ORDER) else {"number", "text"}
    if not has_column:
        raise _refuse(f"names no column in {part!r}.")
    if isinstance(sign, ast.Is | ast.IsNot) or found - allowed:
        raise _refuse(f"holds {part!r}, which is not allowed.")


def _kind_of(column: pd.Series) -> str:
    if is_bool_dtype(column.dtype):
        return "truth"
    return "number" if is_numeric_dtype(column.dtype) else "text"


def _expect(kind: str, node: ast.expr, kinds: Mapping[str, str]) -> str:
    found = _kind(node, kinds)
    if found != kind:
        raise _refuse(f"needs {_NEEDED[kind]} in {ast.unparse(node)!r}, got {found}.")
    return found


def _refuse(problem: str) -> CohortError:
    return CohortError("--where", f"the filter {problem}", _ALLOWED)
