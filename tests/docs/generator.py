"""docs/generate.py, which is a hook of mkdocs and in no package."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location("generate", Path("docs/generate.py"))
generate = module_from_spec(_spec)
_spec.loader.exec_module(generate)

commands = generate.commands
