from pathlib import Path

import pytest
import yaml

LOCK = {line.strip().lower() for line in Path("requirements.lock").read_text().splitlines() if "==" in line}


@pytest.mark.parametrize("path", sorted(Path("envs").glob("*.yaml")), ids=lambda path: path.name)
def test_the_environments_of_jobs_have_the_locked_versions(path):
    dependencies = yaml.safe_load(path.read_text())["dependencies"]
    (pins,) = (entry["pip"] for entry in dependencies if isinstance(entry, dict))
    assert pins and {pin.lower() for pin in pins} <= LOCK
