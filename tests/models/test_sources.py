"""Which architectures are known, read from the sources of libraries that take seconds to import."""

import subprocess
import sys
from pathlib import Path

from stratalaw.models.shipped import shipped_models
from stratalaw.models.sources import TESTED


def test_a_model_is_checked_without_importing_what_would_run_it(small_model_folder):
    code = (
        "import sys; from pathlib import Path; from stratalaw.models.sources import check_architecture; "
        "check_architecture(Path(sys.argv[1])); print({'torch', 'transformers', 'gptqmodel'} & set(sys.modules))"
    )
    checked = subprocess.run(
        [sys.executable, "-c", code, str(small_model_folder)], capture_output=True, text=True, check=True
    )
    assert checked.stdout.strip() == "set()"


def test_the_tested_architectures_are_those_of_the_documented_table():
    lines = (Path("docs") / "reference" / "architectures.md").read_text().splitlines()
    rows = [line.split("|")[1:3] for line in lines if line.startswith("| ")][2:]
    accepted = {name.partition(",")[0].strip() for name, found in rows if not found.startswith(" no: ")}
    assert accepted == TESTED


def test_shipped_models_are_of_tested_architectures():
    assert {shipped.config["model_type"] for shipped in shipped_models().values()} <= TESTED
