"""An exported folder as a repository of the Hub."""

from __future__ import annotations

from pathlib import Path

import httpx
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, RepositoryNotFoundError

from stratalaw.errors import StratalawError
from stratalaw.models.hub import HOW_TO_GIVE_A_TOKEN
from stratalaw.text import one_line


class UploadError(StratalawError):
    """A folder that cannot be uploaded; the message is one line that says why, and what to do."""


def upload(folder: Path, repository: str) -> str:
    """Put a folder on the Hub, in one commit; returns the address of the repository.

    A repository that does not exist is made, and private: who uploads decides when others see it. One that has weights
    already is refused.

    Raises:
        UploadError: the Hub cannot be reached or refuses, or the repository has weights.
    """
    api = HfApi()
    try:
        if any(name.endswith(".safetensors") for name in _files_of(api, repository)):
            raise UploadError(f"{repository}: has weights already, and nothing is overwritten; name another repository")
        page = api.create_repo(repository, private=True, exist_ok=True)
        files = [CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
        api.create_commit(repository, files, commit_message=f"{folder.name}, exported by stratalaw")
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError, httpx.HTTPError) as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        hint = f"; {HOW_TO_GIVE_A_TOKEN}" if status in (401, 403) else ""
        raise UploadError(f"{repository}: not uploaded: {one_line(error)}{hint}; {folder} is whole") from None
    return str(page)


def _files_of(api: HfApi, repository: str) -> list[str]:
    try:
        names: list[str] = api.list_repo_files(repository)
    except RepositoryNotFoundError:
        return []
    return names
