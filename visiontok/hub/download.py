"""Files of a hub repository, through the huggingface_hub client and its cache."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

import visiontok
from visiontok.base.errors import CheckpointError, ConfigError, HubError, VisiontokError
from visiontok.base.offline import is_offline
from visiontok.hub.reading import check_whole
from visiontok.hub.sources import DamageT, FileAbsentError

_UNWRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def endpoint() -> str:
    """The hub's address: `HF_ENDPOINT` as it is now, not as it was when the client was imported."""
    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


@dataclass
class Repository:
    """One revision of a hub repository; all files of one load come from one commit.

    Attributes:
        repo: "owner/name".
        revision: branch, tag or commit.
        cache_dir: the client's cache; None for its default (`HF_HOME`).
        local_files_only: never ask the hub.
        token: access token; None for the one that `hf auth login` stored.
    """

    repo: str
    revision: str
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    token: str | bool | None = None
    _commit: str | None = field(default=None, init=False)

    def __str__(self) -> str:
        return self.repo if self.revision == constants.DEFAULT_REVISION else f"{self.repo}@{self.revision}"

    def other(self, repo: str, revision: str) -> Repository:
        """Another repository or revision, fetched in the same way."""
        return Repository(repo, revision, cache_dir=self.cache_dir, local_files_only=self.local_files_only, token=self.token)

    def get(self, filename: str) -> Path:
        with explained(str(self), filename, local_files_only=self.only_cached):
            try:
                path = self._fetch(filename, local_files_only=self.only_cached)
            except OSError as error:
                if error.errno not in _UNWRITABLE:
                    raise
                with suppress(LocalEntryNotFoundError):  # a cache that is only read can hold the file all the same
                    return self._checked(self._fetch(filename, local_files_only=True), filename)
                raise
        return self._checked(path, filename)

    @property
    def only_cached(self) -> bool:
        """Whether the hub may not be asked: by `local_files_only`, or by the environment as it is now."""
        return self.local_files_only or is_offline()

    def _fetch(self, filename: str, *, local_files_only: bool) -> Path:
        return Path(
            hf_hub_download(
                self.repo,
                filename,
                revision=self.revision,
                cache_dir=self.cache_dir,
                local_files_only=local_files_only,
                token=self.token,
                endpoint=endpoint(),
                library_name="visiontok",
                library_version=visiontok.__version__,
            )
        )

    def _checked(self, path: Path, filename: str) -> Path:
        commit = path.parents[filename.count("/")].name  # the cache keeps a commit's files under snapshots/<commit>/
        if self._commit not in (None, commit):
            raise HubError(f"{self} was changed while it was being loaded (from commit {self._commit} to {commit}); load again")
        self._commit = commit
        try:
            check_whole(path)
        except (CheckpointError, ConfigError) as error:
            raise self.damaged(path, error) from error
        return path

    def damaged(self, path: Path, error: DamageT) -> DamageT:
        try:
            path.resolve().unlink(missing_ok=True)  # the blob that the snapshot's link points to
            path.unlink(missing_ok=True)
            what = "It was removed from the cache; load again"
        except OSError as unwritable:
            what = f"It cannot be removed from the cache ({unwritable.strerror}): remove {path} and load again"
        return type(error)(f"{str(error).rstrip('.')}. {what}, and if this repeats, the file in {self} is damaged.")


@contextmanager
def explained(repository: str, what: str, *, local_files_only: bool = False) -> Iterator[None]:
    """Turn every failure of the client into one `HubError` that says what to do.

    Args:
        repository: "owner/name" or "owner/name@revision".
        what: the file, or what else was to be transferred.
        local_files_only: whether the client was told not to ask the hub.
    """
    try:
        yield
    except VisiontokError:
        raise
    except Exception as error:  # the client's network errors have another base class in each of its major versions
        raise _explain(error, repository, what, local_files_only) from error


def _explain(error: BaseException, repository: str, what: str, local_files_only: bool) -> HubError:
    name, _, revision = repository.partition("@")
    address = f"{endpoint()}/{name}"
    login = "log in with `hf auth login` or pass token="
    if isinstance(error, HFValidationError):
        return HubError(f"{name!r} is not a repository name; expected owner/name: {error}")
    if isinstance(error, LocalEntryNotFoundError):
        if local_files_only or constants.HF_HUB_OFFLINE or is_offline():
            return FileAbsentError(
                f"{what} of {repository} is not in the cache, and the hub may not be asked (local_files_only or HF_HUB_OFFLINE); "
                "load it once while online"
            )
        if isinstance(error.__cause__, HfHubHTTPError):
            return _explain(error.__cause__, repository, what, local_files_only)
        return HubError(f"{what} of {repository} is not in the cache, and {endpoint()} cannot be reached ({_short(error.__cause__ or error)})")
    if isinstance(error, GatedRepoError):
        return HubError(f"{repository} is gated: accept its conditions at {address}, then {login}")
    if isinstance(error, RepositoryNotFoundError):
        return HubError(f"there is no repository {name} at {endpoint()}, or it is private; check the name (a folder is written ./{name}), or {login}")
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{name} has no branch, tag or commit {revision or constants.DEFAULT_REVISION!r}; see {address}")
    if isinstance(error, EntryNotFoundError):
        return FileAbsentError(f"{repository} holds no {what}; see {address}")
    if isinstance(error, OSError) and error.errno in (*_UNWRITABLE, errno.ENOSPC, errno.ENOTDIR, errno.EEXIST):
        return HubError(
            f"{what} of {repository} cannot be written to the cache ({error.filename}: {error.strerror}); "
            "set HF_HOME, or pass cache_dir=, to a folder that can be written and has space"
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if status == 404:  # from mirrors that do not say what is missing
        return FileAbsentError(f"{endpoint()} holds no {what} of {repository}")
    if status == 401:
        return HubError(f"{endpoint()} requires a valid access token for {repository}: {login}")
    if status == 403:
        return HubError(f"access to {repository} is forbidden with this token ({_short(error)}); check its permissions")
    return HubError(f"{what} of {repository} could not be transferred ({_short(error)}); try again")


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)[:300]}"
