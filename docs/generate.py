"""What the documentation shows of the code itself, made from the code whenever the site is built (a hook of mkdocs).

Pages: every key of a study, every command, the Python API, the sources that pages link to, and the pages that lie at
the top of the repository. Pictures: the rules and the packages.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
EXAMPLES = DOCS / "examples"
PACKAGE = ROOT / "src" / "stratalaw"
# Pages that lie elsewhere in the repository, where readers of the repository look for them.
ELSEWHERE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "config/README.md": "reference/parts.md",
}
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s]+)(?=\))")
LANGUAGES = {
    **{".py": "python", ".yaml": "yaml", ".smk": "python", ".csv": "text", ".toml": "toml", ".json": "json"},
}


# ---- Hooks ----


def on_config(config: MkDocsConfig) -> None:
    """Let the menu list the parts of the library, in place of the entry for all of them."""
    (reference,) = (entry["Reference"] for entry in config.nav if "Reference" in entry)
    place = next(i for i, entry in enumerate(reference) if "Python API" in entry)
    overview = reference[place]["Python API"]
    reference[place] = {"Python API": [{"Overview": overview}, *(f"reference/api/{name}.md" for name in api_parts())]}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    from mkdocs.structure.files import File

    pages = {page: brought_in(path, page) for path, page in ELSEWHERE.items()} | {
        "reference/study.md": study_page(),
        "reference/commands.md": commands_page(),
    }
    pages |= {f"reference/api/{name}.md": api_page(name) for name in api_parts()}
    texts = pages | {file.src_uri: file.content_string for file in files.documentation_pages()}
    sources = {source for page, text in texts.items() for _, source in links_to_sources(text, page)}
    pages |= {source_page(source): page_of_source(source) for source in sources - ELSEWHERE.keys()}
    pages |= {
        "explanation/rules.svg": picture(rule_graph()),
        "explanation/packages.svg": picture(package_graph()),
        "explanation/prefix-tree.svg": picture(PREFIX_TREE),
    }
    for uri, content in pages.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    for link, source in links_to_sources(markdown, page.file.src_uri):
        depth = page.file.src_uri.count("/")
        markdown = markdown.replace(f"]({link})", f"]({'../' * depth}{source_page(source)})")
    return markdown


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that would load anything from a network."""
    loads = re.compile(r"""<(?:script|img|link|iframe)\b[^>]*\b(?:src|href)=["']?(https?:[^"'\s>]+)""")
    for page in Path(config.site_dir).rglob("*.html"):
        # A canonical link names the page and loads nothing, but there is none without site_url.
        if found := loads.search(page.read_text()):
            raise SystemExit(f"{page}: loads {found[1]}: the site must open offline")


# ---- Sources that pages link to ----


def links_to_sources(markdown: str, page: str) -> Iterator[tuple[str, str]]:
    """Links of a page that lead to a file of the repository outside the documentation, with that file's path."""
    for link in set(LINK.findall(markdown)):
        target = (DOCS / page).parent.joinpath(link.partition("#")[0]).resolve()
        if target.is_file() and target.is_relative_to(ROOT) and not target.is_relative_to(DOCS):
            yield link, target.relative_to(ROOT).as_posix()


def source_page(path: str) -> str:
    return ELSEWHERE.get(path, f"source/{path}.md")


def page_of_source(path: str) -> str:
    text = (ROOT / path).read_text()
    language = LANGUAGES.get(Path(path).suffix, "text")
    return f"---\nsearch: {{exclude: true}}\nhide: [toc]\n---\n\n# {path}\n\n````{language}\n{text}\n````\n"


def brought_in(path: str, page: str) -> str:
    """A Markdown file of the repository as a page of the site, with its links as seen from there."""

    def moved(link: re.Match[str]) -> str:
        return os.path.relpath((ROOT / path).parent / link[1], (DOCS / page).parent)

    return LINK.sub(moved, (ROOT / path).read_text())


# ---- The keys of a study ----


def study_page() -> str:
    """Every key of a study and every option of the workflow, from the pydantic models."""
    from stratalaw.planning.candidates import Demand, WorkloadDemand
    from stratalaw.study import definition
    from stratalaw.study.configuration import Options

    sections = [
        ("The study", "", definition.Study),
        ("models: one entry for each model", "models", definition.Model),
        ("models.checkpoints: one entry for each checkpoint", "models.checkpoints", definition.Checkpoint),
        ("models.mixed: one entry for each allocation", "models.mixed", definition.Mixed),
        ("The file of an allocation", "", definition.Allocation),
        ("matrices: one entry for each matrix", "matrices.MATRIX", definition.MatrixPrecision),
        ("grids: one entry for each grid of variants", "grids", definition.Grid),
        ("gptq", "gptq", definition.Gptq),
        ("calibration", "calibration", definition.Calibration),
        ("evaluation", "evaluation", definition.Evaluation),
        ("evaluation.strata: one entry for each benchmark", "evaluation.strata.STRATUM", definition.Benchmark),
    ]
    lines = [
        "# Every key of a study",
        "",
        "A study is one YAML file. Unknown keys are refused, and so are impossible values, before anything runs. "
        "[config/README.md](../../config/README.md) explains what the parts are for; "
        "[config/demo.yaml](../../config/demo.yaml) is the smallest whole study.",
        "",
    ]
    for title, prefix, section in sections:
        lines += [f"## {title}", "", summary_of(section), "", *table_of_keys(section, prefix), ""]
    lines += [
        "## Options of the workflow",
        "",
        "Given beside the keys of a study with `--config`, for example `--config allow_missing=true`. "
        + summary_of(Options),
        "",
        *table_of_keys(Options, ""),
        "",
        "## A portfolio",
        "",
        "The file of `stratalaw plan --portfolio`. " + summary_of(Demand),
        "",
        *table_of_keys(Demand, ""),
        "",
        "### workloads: one entry for each workload",
        "",
        *table_of_keys(WorkloadDemand, "workloads"),
        "",
    ]
    return "\n".join(lines)


def summary_of(documented: Any) -> str:
    return as_markdown(ast.get_docstring(ast.parse(f'"""{documented.__doc__}"""')) or "")


def as_markdown(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def table_of_keys(section: Any, prefix: str) -> list[str]:
    schema = section.model_json_schema()
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in section.model_fields.items():
        about = schema["properties"][name]
        default = "*required*" if field.is_required() else default_of(field)
        key = f"{prefix}.{name}" if prefix else name
        rows.append(f"| `{key}` | {kind_of(about, schema)} | {default} | {as_markdown(field.description or '')} |")
    return rows


def default_of(field: Any) -> str:
    default = field.get_default(call_default_factory=True)
    if default is None:
        return ""
    if hasattr(default, "model_dump"):
        return "see below"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def kind_of(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        return "section"
    if "anyOf" in schema:
        kinds = [kind_of(part, root) for part in schema["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return "one of " + ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type")
    if kind == "array":
        return f"list of {kind_of(schema['items'], root).replace('section', 'sections')}"
    if kind == "object":
        values = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {"": {}}).values()))
        return f"mapping of names to a {kind_of(values, root)}"
    if kind == "string":
        return "text"
    bounds = {"minimum": "≥", "maximum": "≤", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
    limits = [f"{sign} {schema[bound]:g}" for bound, sign in bounds.items() if bound in schema]
    return " ".join([{"integer": "integer", "number": "number", "boolean": "true or false"}.get(kind, ""), *limits])


# ---- Commands ----


def commands() -> dict[str, Any]:
    """Every command of ``stratalaw``, as click sees it, by name."""
    import typer.main

    from stratalaw.cli import app

    return dict(typer.main.get_command(app).commands)


def commands_page() -> str:
    """Every command with its arguments, options and an example."""
    lines = [
        "# Every command",
        "",
        "Each command prints an error that a user can fix as one line and exits with status 1. "
        "The examples were run in the repository's folder; a machine other than ours takes other seconds.",
        "",
    ]
    for name, command in commands().items():
        lines += [f"## stratalaw {name}", "", as_markdown(command.help), "", "| | default | meaning |", "|---|---|---|"]
        lines += [row_of_parameter(parameter) for parameter in command.params]
        if not command.params:
            lines = lines[:-2]
        lines += ["", "```console", (EXAMPLES / f"{name}.txt").read_text().rstrip(), "```", ""]
    return "\n".join(lines)


def row_of_parameter(parameter: Any) -> str:
    is_option = parameter.param_type_name == "option"
    name = parameter.opts[0] if is_option else parameter.metavar or parameter.name.upper()
    optional = "" if parameter.default is None else f"`{parameter.default}`"
    default = "*required*" if parameter.required else optional
    return f"| `{name}` | {default} | {as_markdown(parameter.help or '')} |"


# ---- The Python API ----

COMMAND_LINE = {"cli", "terminal"}


def api_parts() -> list[str]:
    """The packages and modules of the library, but for those of the command line."""
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    return sorted((packages | {path.stem for path in modules_of(PACKAGE)}) - COMMAND_LINE)


def modules_of(package: Path) -> list[Path]:
    return sorted(path for path in package.glob("*.py") if path.name != "__init__.py")


def api_page(part: str) -> str:
    """A package or module, for mkdocstrings to fill in from the docstrings."""
    if not (PACKAGE / part).is_dir():
        return f"---\ntitle: stratalaw.{part}\n---\n\n::: stratalaw.{part}\n    options: {{heading_level: 1}}\n"
    about = ast.get_docstring(ast.parse((PACKAGE / part / "__init__.py").read_text())) or ""
    lines = [f"# stratalaw.{part}", "", as_markdown(about.partition("\n\n")[0]), ""]
    for path in modules_of(PACKAGE / part):
        lines += [f"::: stratalaw.{part}.{path.stem}", ""]
    return "\n".join(lines)


# ---- Pictures ----

# Two questions of two choices after one prompt.
PREFIX_TREE = {
    "few-shot prompt": set[str](),
    "question 1": {"few-shot prompt"},
    "question 2": {"few-shot prompt"},
    "choice 1a": {"question 1"},
    "choice 1b": {"question 1"},
    "choice 2a": {"question 2"},
    "choice 2b": {"question 2"},
}


def rule_graph() -> dict[str, set[str]]:
    """The rules of the workflow, each with those that it waits for, as snakemake draws them."""
    command = ["-m", "snakemake", "--profile", "profiles/demo", "--rulegraph", "--forceall", "--quiet", "all"]
    ran = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"snakemake --rulegraph: {ran.stderr.strip()}")
    names = dict(re.findall(r'^\s*(\d+)\[label = "(\w+)"', ran.stdout, re.MULTILINE))
    graph: dict[str, set[str]] = {name: set() for name in names.values()}
    for before, after in re.findall(r"^\s*(\d+) -> (\d+)", ran.stdout, re.MULTILINE):
        graph[names[after]].add(names[before])
    return graph


def package_graph() -> dict[str, set[str]]:
    """The packages and modules of the library, each with those that it imports."""
    parts = {path.stem for path in modules_of(PACKAGE)} | {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    graph: dict[str, set[str]] = {part: set() for part in parts}
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if part not in parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            imported = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in imported:
                if name.startswith("stratalaw.") and (other := name.split(".")[1]) in parts - {part}:
                    graph[part].add(other)
    del graph["errors"]  # which all import
    return {part: others - {"errors"} for part, others in graph.items()}


def reduced(graph: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The graph without the arrows that longer ways imply."""
    below: dict[str, set[str]] = {}
    for name in TopologicalSorter(graph).static_order():
        below[name] = set().union(*(below[other] | {other} for other in graph[name]))
    return {name: {o for o in others if not any(o in below[p] for p in others)} for name, others in graph.items()}


def picture(graph: Mapping[str, set[str]]) -> str:
    """A graph as SVG: each name below all that it needs, in rows, with arrows from what is needed."""
    graph = reduced(graph)
    row: dict[str, int] = {}
    for name in TopologicalSorter(graph).static_order():
        row[name] = max((row[other] + 1 for other in graph[name]), default=0)
    # An arrow that crosses rows has a bend in each of them, so that it passes between boxes.
    needs: dict[str, set[str]] = {name: set() for name in graph}
    for name, others in graph.items():
        for other in others:
            last = other
            for passed in range(row[other] + 1, row[name]):
                bend = f"{other}>{name}>{passed}"
                row[bend], needs[bend] = passed, {last}
                last = bend
            needs[name].add(last)
    rows = [sorted(n for n in row if row[n] == i) for i in range(max(row.values()) + 1)]
    needed_by = {n: {m for m in needs if n in needs[m]} for n in row}
    for sweep in range(8):
        neighbours, order = (needs, rows) if sweep % 2 == 0 else (needed_by, rows[::-1])
        place = {n: i / max(len(r) - 1, 1) if len(r) > 1 else 0.5 for r in rows for i, n in enumerate(r)}
        for members in order:
            mean = {
                n: sum(place[m] for m in neighbours[n]) / len(neighbours[n]) if neighbours[n] else place[n]
                for n in members
            }
            members.sort(key=lambda n: mean[n])
            place |= {n: i / max(len(members) - 1, 1) if len(members) > 1 else 0.5 for i, n in enumerate(members)}
    return drawn(rows, needs)


BOX_HEIGHT, ROW_HEIGHT, GAP, BEND_WIDTH, LETTER = 30, 66, 22, 14, 7.6


def drawn(rows: list[list[str]], needs: Mapping[str, set[str]]) -> str:
    def width_of(name: str) -> float:
        return BEND_WIDTH if ">" in name else LETTER * len(name) + 24

    widths = [sum(map(width_of, members)) + GAP * (len(members) - 1) for members in rows]
    total, height = max(widths) + 20, ROW_HEIGHT * len(rows)
    centre: dict[str, tuple[float, float]] = {}
    for i, members in enumerate(rows):
        x = (total - widths[i]) / 2
        for name in members:
            centre[name] = (x + width_of(name) / 2, 10 + BOX_HEIGHT / 2 + i * ROW_HEIGHT)
            x += width_of(name) + GAP
    half = BOX_HEIGHT / 2
    parts = []
    for name, others in needs.items():
        for other in sorted(others):
            (x0, y0), (x1, y1) = centre[other], centre[name]
            start, end = y0 + (0 if ">" in other else half), y1 - (0 if ">" in name else half + 2)
            middle = (start + end) / 2
            tip = "" if ">" in name else ' marker-end="url(#tip)"'
            curve = f"M{x0:.1f},{start:.1f} C{x0:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{end:.1f}"
            parts.append(f'<path d="{curve}"{tip}/>')
    for name, (x, y) in centre.items():
        if ">" not in name:
            width = width_of(name)
            parts.append(
                f'<rect x="{x - width / 2:.1f}" y="{y - half:.1f}" width="{width:.1f}" height="{BOX_HEIGHT}" rx="5"/>'
                f'<text x="{x:.1f}" y="{y + 4.5:.1f}">{name}</text>'
            )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total:.0f} {height:.0f}" width="{total:.0f}">'
        "<style>path{fill:none;stroke:#78909c;stroke-width:1.3}rect{fill:#e0f2f1;stroke:#00796b}"
        "text{font:13px sans-serif;text-anchor:middle;fill:#263238}</style>"
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" style="fill:#78909c;stroke:none"/></marker></defs>' + "".join(parts) + "</svg>\n"
    )
