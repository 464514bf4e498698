"""The home folder: where a register keeps its archive, database, fingerprints and publications."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import duckdb

from lineage.errors import HomeError, NotFoundError
from lineage.settings import Settings, parse_settings
from lineage.store.migrations import migrate

__all__ = ["Home"]


@dataclass(frozen=True, slots=True)
class Home:
    """Paths below one folder; nothing is created before :meth:`prepare`."""

    root: Path

    @property
    def archive(self) -> Path:
        """Raw answers of the Hub, append-only."""
        return self.root / "raw"

    @property
    def database(self) -> Path:
        """The working database, written by the pipeline only."""
        return self.root / "herdbook.duckdb"

    @property
    def fingerprints(self) -> Path:
        """Stored words and sketches, in parts."""
        return self.root / "fingerprints"

    @property
    def vocabularies(self) -> Path:
        """Anchor tokens of the vocabularies seen so far."""
        return self.root / "vocabularies"

    @property
    def published(self) -> Path:
        """Read-only publications and their manifest."""
        return self.root / "published"

    def settings(self) -> Settings:
        """The settings in ``settings.toml``, or the defaults.

        Raises
        ------
        HerdbookError
            If the file cannot be understood.
        """
        try:
            text = (self.root / "settings.toml").read_text("utf-8")
        except FileNotFoundError:
            return Settings()
        except (OSError, UnicodeDecodeError) as error:
            raise HomeError(f"cannot read {self.root / 'settings.toml'}: {error}") from error
        return parse_settings(text)

    def prepare(self) -> None:
        """Create the folders.

        Raises
        ------
        HomeError
            If the folder cannot be created or written.
        """
        try:
            for folder in (self.root, self.archive, self.fingerprints, self.published):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomeError(
                f"cannot use {self.root} as home: {error.strerror or error}; "
                "choose a writable folder with --home"
            ) from error
        if not os.access(self.root, os.W_OK):
            raise HomeError(f"cannot write to {self.root}; choose a writable folder with --home")

    def open_working(self) -> duckdb.DuckDBPyConnection:
        """Open the working database for writing, created and migrated as needed.

        Raises
        ------
        HomeError
            If another process holds it, or it cannot be written.
        """
        self.prepare()
        try:
            connection = duckdb.connect(str(self.database))
        except duckdb.IOException as error:
            raise HomeError(
                f"cannot open {self.database}: another herdbook command may be running ({error})"
            ) from error
        connection.execute("SET TimeZone = 'UTC'")
        migrate(connection)
        return connection

    def require_database(self) -> None:
        """Raise unless a crawl has been made here.

        Raises
        ------
        NotFoundError
            If there is no working database.
        """
        if not self.database.is_file():
            raise NotFoundError(
                f"no database in {self.root}; run `herdbook crawl --home {self.root}` first"
            )
