"""What a study needs from the Hugging Face Hub: pinned by commit, checked by hash, fetched once.

Each file is fetched by huggingface_hub, which waits when the Hub limits requests and resumes where a connection broke.
Files stay in the folder of downloads until all have arrived, so that a killed download resumes where it was. Nothing
that could run as code is fetched: no pickled weights and no Python.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import httpx
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import HfFileMetadata, http_get
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    build_hf_headers,
    disable_progress_bars,
    enable_progress_bars,
    hf_raise_for_status,
    http_stream_backoff,
)
from huggingface_hub.utils.sha import git_hash

from stratalaw.errors import StratalawError
from stratalaw.files import appears_whole, move_whole, sha256
from stratalaw.models.folder import (
    CONFIG,
    INDEX,
    TOKENIZERS,
    WEIGHTS,
    check_model,
    goes_with_weights,
    weight_names,
    write_manifest,
)
from stratalaw.units import readable_bytes

LOG = logging.getLogger(__name__)

SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
SAFETENSORS = ".safetensors"
SECONDS_FOR_AN_ANSWER = 30
MAX_ANSWER = 32 * 2**20  # bytes; a page of a thousand files takes 0.3 MB
MAX_PAGES = 100
MAX_RESTARTS = 5
LIMITED, UNAUTHORIZED, FORBIDDEN = 429, 401, 403
BAD_TOKEN = "Invalid credentials in Authorization header"
KEPT = "what has arrived is kept"
PARTIAL = ".partial"
HOW_TO_GIVE_A_TOKEN = "set HF_TOKEN, or log in with: hf auth login"


class DownloadError(StratalawError):
    """Something could not be fetched from the Hub; the message is one line that names it and what to do."""


@dataclass(frozen=True)
class Repository:
    """A model or a data set of the Hub, at one commit (40 hexadecimal digits) or, to be pinned, at its newest."""

    name: str
    kind: Literal["model", "dataset"] = "model"
    commit: str | None = None

    @property
    def page(self) -> str:
        """Its page on the Hub."""
        return f"{endpoint()}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


@dataclass(frozen=True)
class HubFile:
    """A file of a repository.

    ``checksum``: its SHA-256 if it is stored as a large file, and else the hash that git gives its content.
    """

    name: str
    size: int
    checksum: str


def download_model(repository: Repository, target: Path, downloads: Path) -> None:
    """Fetch a model (configuration, tokenizer, safetensors) into a folder that appears whole or not at all.

    Args:
        repository: pinned by its commit.
        target: the model's folder; gets a manifest of SHA-256 sums, as a copied model does.
        downloads: where files wait until all are there; on the same disk as ``target``.

    Raises:
        DownloadError: the Hub cannot be reached, refuses, or sent something else than it announced.
        ModelError: the model has no configuration, tokenizer or safetensors.
    """
    waiting = downloads / f"{repository.name.replace('/', '--')}@{repository.commit}"
    with _online(repository):
        listed = {file.name: file for file in list_files(repository)}
        check_names(repository, listed.keys())
        if WEIGHTS not in listed:
            _fetch(repository, listed[INDEX], waiting)  # says which files hold the weights
        beside = [name for name in listed if goes_with_weights(name)]
        weights = weight_names(listed.keys(), waiting)
        names = sorted([*beside, *weights])
        check_disk(waiting, sum(listed[name].size for name in names) - bytes_in(waiting))
        for name in names:
            _fetch(repository, listed[name], waiting)
    _keep_only(set(names), waiting)
    check_model(waiting)
    write_manifest(waiting, target.name)  # reads all of it; a job that is killed meanwhile must lose nothing
    move_whole(waiting, target)


def download_file(repository: Repository, name: str, target: Path) -> None:
    """Fetch one file of a repository; it appears whole or not at all.

    Raises:
        DownloadError: the Hub cannot be reached, refuses, or sent something else than it announced.
    """
    waiting = target.with_name(f"{target.name}.download")
    try:
        with _online(repository):
            about = _metadata(repository, name)
            if about.size is None or about.etag is None:
                raise DownloadError(f"{repository.page}: the answer does not say the size and the hash of {name}")
            check_disk(waiting, about.size - bytes_in(waiting))
            _fetch(repository, HubFile(name, about.size, about.etag), waiting)
        with appears_whole(target) as unfinished:
            shutil.move(waiting / name, unfinished)
    finally:
        if not bytes_in(waiting):
            shutil.rmtree(waiting, ignore_errors=True)


def check_readable(repository: Repository, file: str | None = None) -> None:
    """Ask whether a repository has its commit, lets this user read it, and has a file if one is named.

    Raises:
        DownloadError: the Hub cannot be reached or refuses.
    """
    with _online(repository):
        _ask(f"{repository.kind}s/{repository.name}/revision/{repository.commit}")
        if file is not None:
            _metadata(repository, file)
            return
        with suppress(RemoteEntryNotFoundError):  # whether it is gated is said for files, also for those not there
            _metadata(repository, "README.md")


def unreadable(wanted: Iterable[tuple[Repository, str | None]]) -> list[str]:
    """Why repositories, or named files of them, cannot be read: a line for each; one line if there is no Hub."""
    problems = []
    for repository, file in wanted:
        try:
            check_readable(repository, file)
        except DownloadError as error:
            problems.append(str(error))
            if not isinstance(error.__cause__, HfHubHTTPError):
                break
    return problems


def newest_commit(repository: Repository) -> str:
    """The commit that a repository's main branch has now.

    Raises:
        DownloadError: the Hub cannot be reached, or has no such repository.
    """
    with _online(repository):
        answer, _ = _ask(f"{repository.kind}s/{repository.name}")
        with _expected(repository, "its newest commit"):
            commit = answer["sha"]
            if not COMMIT.fullmatch(commit):
                raise ValueError
    return str(commit)


def name_with_owner(repository: Repository) -> str:
    """The name ``owner/name`` of a repository that is known by a former name without owner, such as xnli.

    Raises:
        DownloadError: the Hub cannot be reached, or has no such repository or commit.
    """
    with _online(repository):
        answer, _ = _ask(f"{repository.kind}s/{repository.name}/revision/{repository.commit}")
        with _expected(repository, "its name"):
            owner, name = answer["id"].split("/")
    return f"{owner}/{name}"


def list_files(repository: Repository) -> list[HubFile]:
    """The files at the top of a repository, in the order of their names."""
    entries, next_page = _ask(f"{repository.kind}s/{repository.name}/tree/{repository.commit}")
    pages = 1
    with _expected(repository, "its files"):
        while next_page:
            if _host(next_page) != _host(endpoint()):
                raise DownloadError(f"{repository.page}: its list goes on at another host ({next_page}): not followed")
            if pages == MAX_PAGES:
                raise DownloadError(f"{repository.page}: its list has not ended after {pages} pages: not followed")
            more, next_page = _get(next_page)
            entries, pages = [*entries, *more], pages + 1
        files = [entry for entry in entries if entry["type"] == "file"]
        listed = [HubFile(file["path"], file["size"], (file.get("lfs") or file)["oid"]) for file in files]
        for file in listed:
            if not (isinstance(file.name, str) and isinstance(file.checksum, str)):
                raise TypeError
            if not (type(file.size) is int and file.size >= 0):
                raise TypeError
    return sorted(listed, key=lambda file: file.name)


def check_names(repository: Repository, names: Collection[str]) -> None:
    """Refuse a repository that is no model, before anything of it is fetched."""
    if CONFIG not in names:
        raise DownloadError(f"{repository.page} has no {CONFIG}: it is not a model of transformers")
    if not any(name in names for name in TOKENIZERS):
        raise DownloadError(f"{repository.page} has no tokenizer ({' or '.join(TOKENIZERS)})")
    if WEIGHTS not in names and INDEX not in names:
        raise DownloadError(
            f"{repository.page} has no safetensors; weights in pickle formats can run code: not fetched"
        )


def check_disk(place: Path, needed: int) -> None:
    """Refuse to fetch what the disk cannot hold (``needed``: bytes)."""
    existing = next(parent for parent in [place.absolute(), *place.absolute().parents] if parent.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DownloadError(
            f"{place}: the download needs {readable_bytes(needed)}, and {readable_bytes(free)} are free"
        )


def bytes_in(folder: Path) -> int:
    """Size of all files in a folder; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def endpoint() -> str:
    """The Hub's address."""
    return os.environ.get("HF_ENDPOINT", constants.ENDPOINT).rstrip("/")


def _metadata(repository: Repository, name: str) -> HfFileMetadata:
    url = _address(repository, name)
    return get_hf_file_metadata(url, timeout=SECONDS_FOR_AN_ANSWER, retry_on_errors=True, endpoint=endpoint())


def _host(url: str) -> tuple[str, str, int | None]:
    address = httpx.URL(url)
    return address.scheme, address.host, address.port


def _ask(path: str) -> tuple[Any, str | None]:
    return _get(f"{endpoint()}/api/{path}")


def _get(url: str) -> tuple[Any, str | None]:
    """The JSON of an answer, and the address of the next page if there is one."""
    # HfApi asks once and gives up at a 429; huggingface_hub's own back-off waits as long as the Hub says.
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    with http_stream_backoff("GET", url, headers=headers, timeout=SECONDS_FOR_AN_ANSWER) as response:
        hf_raise_for_status(response)
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > MAX_ANSWER:
                raise DownloadError(f"{url}: an answer of more than {readable_bytes(MAX_ANSWER)}: not read further")
        try:
            return json.loads(content), response.links.get("next", {}).get("url")
        except (ValueError, RecursionError):
            raise DownloadError(
                f"{url}: this is no answer of the Hub ({response.headers.get('Content-Type', 'of no type')}); "
                "is there a proxy or a login page between, or is HF_ENDPOINT wrong?"
            ) from None


@contextmanager
def _expected(repository: Repository, what: str) -> Iterator[None]:
    """Say in one line that an answer is not formed as the Hub's are."""
    try:
        yield
    except DownloadError:
        raise  # a ValueError too
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, httpx.InvalidURL):
        raise DownloadError(
            f"{repository.page}: the answer does not say {what} as the Hub does; is HF_ENDPOINT ({endpoint()}) a Hub?"
        ) from None


class _Announced:
    """A file that takes no more bytes than were announced, and does not begin again without end."""

    def __init__(self, content: BinaryIO, size: int) -> None:
        self._content, self._size, self._restarts = content, size, 0

    def write(self, chunk: bytes) -> int:
        if self._content.tell() + len(chunk) > self._size:
            raise _NotAsAnnouncedError(f"more than the {self._size} bytes that were announced arrived")
        return self._content.write(chunk)

    def tell(self) -> int:
        return self._content.tell()

    def seek(self, place: int) -> int:
        return self._content.seek(place)

    def truncate(self) -> int:
        self._restarts += 1
        if self._restarts > MAX_RESTARTS:
            raise _NotAsAnnouncedError(f"the connection broke {self._restarts} times, and each began at the start")
        return self._content.truncate()


class _NotAsAnnouncedError(Exception):
    """What arrives is not what the Hub announced; the message says in what."""


def _fetch(repository: Repository, file: HubFile, folder: Path) -> None:
    """Fetch a file into a folder unless it is there, and check it against its hash."""
    path = folder / file.name
    if not path.exists():
        _download(repository, file, path)
    checksum = sha256(path) if SHA256.fullmatch(file.checksum) else git_hash(path.read_bytes())
    if checksum != file.checksum:
        # The next run must not take it for whole; the other files stay.
        path.unlink()
        raise DownloadError(
            f"{repository.page}: {file.name} has the hash {checksum}, the Hub says {file.checksum}; it was deleted: "
            "run again, and if it happens again, report it to the repository's owner"
        )
    LOG.info("%s at %s: %s, %d bytes, %s", repository.name, repository.commit, file.name, file.size, checksum)


def _download(repository: Repository, file: HubFile, path: Path) -> None:
    """Fetch a file; what arrives before an error or a kill stays beside it, and the next call resumes from there."""
    # hf_hub_download throws away what has arrived.
    partial = path.with_name(f"{path.name}{PARTIAL}")
    partial.parent.mkdir(parents=True, exist_ok=True)
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}  # a place in a compressed answer is none in the file
    if partial.exists() and partial.stat().st_size > file.size:
        partial.unlink()
    try:
        with partial.open("ab") as content:
            http_get(
                _address(repository, file.name),
                _Announced(content, file.size),  # type: ignore[arg-type]
                resume_size=content.tell(),
                headers=headers,
                expected_size=file.size,
            )
    except _NotAsAnnouncedError as error:
        partial.unlink()
        raise DownloadError(f"{repository.page}: {file.name}: {error}; it was deleted: run again") from None
    except HfHubHTTPError:
        raise  # an OSError too
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DownloadError(f"{path}: the disk is full; make room and run again: {KEPT}") from error
        if error.errno is not None:
            raise
        arrived = partial.stat().st_size
        raise DownloadError(
            f"{repository.page}: {file.name}: {arrived} bytes arrived, {file.size} were announced; run again: {KEPT}"
        ) from error
    partial.rename(path)


def _keep_only(names: Set[str], folder: Path) -> None:
    """Remove what is no file of the model, such as the manifest of a job that was killed before the model appeared."""
    for path in folder.iterdir():
        if path.name not in names:
            path.unlink()


def _address(repository: Repository, name: str) -> str:
    return hf_hub_url(repository.name, name, repo_type=repository.kind, revision=repository.commit, endpoint=endpoint())


@contextmanager
def _online(repository: Repository) -> Iterator[None]:
    """Let huggingface_hub use the network, silently, and say in one line what went wrong."""
    offline, silent = constants.HF_HUB_OFFLINE, are_progress_bars_disabled()
    constants.HF_HUB_OFFLINE = False  # jobs run offline but for the download
    disable_progress_bars()
    try:
        yield
    except (HfHubHTTPError, httpx.HTTPError) as error:
        raise DownloadError(describe(error, repository)) from error
    finally:
        constants.HF_HUB_OFFLINE = offline
        if not silent:
            enable_progress_bars()


@contextmanager
def refusals_named(repository: Repository) -> Iterator[None]:
    """Say in one line what the Hub refused to the library ``datasets``, which hides it behind errors of its own.

    Raises:
        DownloadError: the Hub refused or cannot be reached.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, (HfHubHTTPError, httpx.HTTPError)):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise DownloadError(describe(cause, repository)) from error
        if isinstance(error, (ConnectionError, FileNotFoundError)):  # the cause may be lost
            if constants.HF_HUB_OFFLINE:
                raise DownloadError(
                    f"{repository.page}: commit {repository.commit} is not in the cache, and HF_HUB_OFFLINE is set; "
                    "run again without it, where there is a network"
                ) from error
            check_readable(repository)
        raise


def describe(error: BaseException, repository: Repository) -> str:
    """What went wrong with a repository and what to do, in one line."""
    page, kind = repository.page, {"model": "model", "dataset": "data set"}[repository.kind]
    response: httpx.Response | None = getattr(error, "response", None)
    if response is None:
        return f"{endpoint()} cannot be reached ({error}); run again with a network: {KEPT}"
    status = response.status_code
    if status == UNAUTHORIZED and response.headers.get("X-Error-Message") == BAD_TOKEN:
        return f"{page}: the Hub does not know the token that was sent; {HOW_TO_GIVE_A_TOKEN}"
    if isinstance(error, GatedRepoError):
        return f"{page} is gated: accept its terms on that page, then {HOW_TO_GIVE_A_TOKEN} (a token that may read it)"
    if isinstance(error, RevisionNotFoundError):
        return f"{page} has no commit {repository.commit}; correct the revision, or delete it and run stratalaw pin"
    if isinstance(error, RemoteEntryNotFoundError):
        return f"{page} has no file {str(response.url).rpartition('/')[2]} at commit {repository.commit}"
    if isinstance(error, RepositoryNotFoundError) or status == UNAUTHORIZED:
        return f"{page}: the Hub has no such {kind}, or it is private; for a private one {HOW_TO_GIVE_A_TOKEN}"
    if status == FORBIDDEN:
        return f"{page}: the token may not read it; {HOW_TO_GIVE_A_TOKEN}"
    if status == LIMITED:
        return f"{page}: the Hub still limits requests after several waits; run again later: {KEPT}"
    return f"{page}: the Hub answered with status {status}; run again later: {KEPT}"
