"""Write the pages that are made from code: commands, settings, examples.

    python docs/generate.py          # cli.md, settings.md and the pages of examples/*.py
    python docs/generate.py --run    # first run the examples anew: their output and pictures

`tests/test_docs.py` compares the committed pages with what this module would write.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any, get_args, get_origin

import griffe
from pydantic import BaseModel
from pydantic.fields import FieldInfo

DOCS = Path(__file__).resolve().parent
EXAMPLES = DOCS.parent / "examples"
WIDTH = 100
SETTINGS_HEAD = """# Settings

Every setting of a run, with its type and default. A YAML of `configs/brain_age` or
`configs/images` states those that differ; `--set KEY=VALUE` changes one on the command line, and
`brainage presets` lists the files. An unknown key is an error; one that changes nothing in a run,
such as `learning.leader_fraction` of `bp`, is said.

Made from the pydantic models of `brainage/config` by `python docs/generate.py`.
"""


def render_settings() -> str:
    """Return the settings of `brainage.config.run.Config` as Markdown, one section a part."""
    from brainage.config.run import Config

    single: list[str] = []
    sections: list[str] = []
    for name, field in Config.model_fields.items():
        model = _model_of(field.annotation)
        if model is None:
            single += _setting(name, field, _descriptions(Config))
        else:
            sections += ["", f"## {name}", "", *_summary(model), ""]
            for key, part in model.model_fields.items():
                sections += _setting(f"{name}.{key}", part, _descriptions(model))
    return "\n".join([SETTINGS_HEAD, "## Of the run itself", "", *single, *sections]) + "\n"


def _model_of(annotation: Any) -> type[BaseModel] | None:
    """Return the settings class in an annotation, `X` or `X | None`."""
    for item in (annotation, *get_args(annotation)):
        if isinstance(item, type) and issubclass(item, BaseModel):
            return item
    return None


def _sections(model: type[BaseModel]) -> list[Any]:
    text = griffe.Docstring(textwrap.dedent(model.__doc__ or ""), parser="numpy")
    return text.parse("numpy", warnings=False)


def _summary(model: type[BaseModel]) -> list[str]:
    texts = [item.value for item in _sections(model) if item.kind.value == "text"]
    paragraphs = [" ".join(part.split()) for text in texts for part in text.split("\n\n")]
    joined = "\n\n".join(_fill(part) for part in paragraphs)
    return [joined]


def _descriptions(model: type[BaseModel]) -> dict[str, str]:
    """Return the text of each attribute; a line `a, b : types` of the docstring serves both."""
    found = {}
    for section in _sections(model):
        if section.kind.value == "attributes":
            for item in section.value:
                for name in item.name.split(","):
                    found[name.strip()] = " ".join(item.description.split())
    return found


def _setting(key: str, field: FieldInfo, descriptions: dict[str, str]) -> list[str]:
    value = field.get_default(call_default_factory=True)
    default = "needed" if field.is_required() else f"default `{_plain(value)}`"
    text = descriptions.get(key.rsplit(".", 1)[-1], "")
    line = f"**`{key}`**: {_type(field)}, {default}." + (f" {text}" if text else "")
    return _fill(line, initial_indent="- ", subsequent_indent="  ").split("\n")


def _fill(text: str, **indents: str) -> str:
    """Wrap prose at `WIDTH` bytes, so that ≥ and δ count as tools count that know no UTF-8."""
    as_bytes = text.encode().decode("latin-1")
    filled = textwrap.fill(as_bytes, WIDTH, break_on_hyphens=False, **indents)
    return filled.encode("latin-1").decode()


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(str(item) for item in value) + "]"
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _type(field: FieldInfo) -> str:
    """Return the type and bounds of a setting in words."""
    leaves = _flat(field.annotation)
    words = {bool: "true or false", int: "integer", float: "number", str: "text"}
    types = [words[item] for item in leaves if isinstance(item, type) and item in words]
    choices = [f"`{item}`" for item in leaves if isinstance(item, str)]
    if choices:
        return f"{types[0]} or {' or '.join(choices)}" if types else f"one of {', '.join(choices)}"
    kind = types[0] if types and get_origin(field.annotation) is not dict else "mapping"
    if "tuple" in str(field.annotation):
        kind = f"list of {kind}s"
    inner = [part for leaf in leaves if isinstance(leaf, FieldInfo) for part in leaf.metadata]
    bounds = [
        f"{sign} {value:,}"
        for item in (*field.metadata, *inner)
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if (value := getattr(item, name, None)) is not None
    ]
    return kind + (f" {' and '.join(bounds)}" if bounds else "")


def _flat(annotation: Any) -> list[Any]:
    """Return the leaves of a nested annotation, literals included."""
    inner = get_args(annotation)
    return [leaf for item in inner for leaf in _flat(item)] if inner else [annotation]


def render_example(path: Path) -> str:
    """Return an example as a page: its comments as prose, its code, its output, its picture.

    Parameters
    ----------
    path : Path
        Module whose docstring starts with the title, in cells that start with ``# %%``.
    """
    docstring, *cells = path.read_text(encoding="utf-8").split("# %%")
    title, _, intro = docstring.strip().strip('"').strip().partition("\n")
    parts = [f"# {title.strip().rstrip('.')}", intro.strip()]
    for cell in cells:
        lines = cell.lstrip(" ").split("\n")
        ends = (i for i, line in enumerate(lines) if i and not line.startswith("#"))
        end = next(ends, len(lines))
        prose = " ".join(line.lstrip("# ").strip() for line in lines[:end]).strip()
        code = "\n".join(lines[end:]).strip()
        parts.append(_fill(prose))
        parts += [f"```python\n{code}\n```"] if code else []
    output = DOCS / "examples" / f"{path.stem}.txt"
    if output.exists():
        parts.append(f"It prints\n\n```text\n{output.read_text(encoding='utf-8').rstrip()}\n```")
    parts += [
        f"![Picture of this example]({picture.name})"
        for picture in sorted((DOCS / "examples").glob(f"{path.stem}*.png"))
    ]
    parts.append(f"The whole file: `python examples/{path.name}`.")
    return "\n\n".join(part for part in parts if part) + "\n"


def run_example(path: Path, output: Path) -> str:
    """Run an example in an empty folder and return what it prints.

    Parameters
    ----------
    path : Path
        The example.
    output : Path
        Folder to work in; pictures named after the example are left there.
    """
    root = str(DOCS.parent)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")])),
        "BRAINAGE_CACHE": os.environ.get("BRAINAGE_CACHE", str(output / "cache")),
        "MPLBACKEND": "agg",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(path.resolve())],
        cwd=output,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{path.name} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def pages() -> dict[Path, str]:
    """Return every generated page with its text."""
    from brainage.cli.reference import render_reference

    made = {
        DOCS / "reference" / "cli.md": render_reference(),
        DOCS / "reference" / "settings.md": render_settings(),
    }
    for path in sorted(EXAMPLES.glob("*.py")):
        made[DOCS / "examples" / f"{path.stem}.md"] = render_example(path)
    return made


def main() -> None:
    """Write the generated pages; with --run, run the examples first."""
    parser = argparse.ArgumentParser(description="Write the generated pages.")
    parser.add_argument("--run", nargs="*", help="examples to run anew (default: all)")
    names = parser.parse_args().run
    if names is not None:
        for path in sorted(EXAMPLES.glob("*.py")):
            if names and path.stem not in names:
                continue
            with tempfile.TemporaryDirectory() as folder:
                text = run_example(path, Path(folder))
                (DOCS / "examples" / f"{path.stem}.txt").write_text(text, encoding="utf-8")
                for picture in Path(folder).glob(f"{path.stem}*.png"):
                    (DOCS / "examples" / picture.name).write_bytes(picture.read_bytes())
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
