"""Which architectures are known, read from the sources of libraries that take seconds to import."""

import subprocess
import sys


def test_a_model_is_checked_without_importing_what_would_run_it(small_model_folder):
    code = (
        "import sys; from pathlib import Path; from stratalaw.models.sources import check_architecture; "
        "check_architecture(Path(sys.argv[1])); print({'torch', 'transformers', 'gptqmodel'} & set(sys.modules))"
    )
    checked = subprocess.run(
        [sys.executable, "-c", code, str(small_model_folder)], capture_output=True, text=True, check=True
    )
    assert checked.stdout.strip() == "set()"
