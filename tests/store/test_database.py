"""SQLite files: tables that are brought up to date, and many who open one file at once."""

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlite_files import posix_only

from aichat_magic.store.database import TableLayout, UnusableFileError, connect


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "a.sqlite3"


def test_older_layout_is_led_to_the_newest(path: Path) -> None:
    first = TableLayout(application_id=5, version=1, create=("CREATE TABLE a (x)",))
    connect(path, first, warn=pytest.fail).close()
    third = TableLayout(
        application_id=5,
        version=3,
        create=("CREATE TABLE never (x)",),
        migrations={1: ("ALTER TABLE a RENAME TO b",), 2: ("INSERT INTO b VALUES (7)",)},
    )
    database = connect(path, third, warn=pytest.fail)
    assert database.connection.execute("SELECT x FROM b").fetchall() == [(7,)]
    assert database.number("user_version") == 3
    database.close()
    with pytest.raises(UnusableFileError, match="newer"):
        connect(path, first, warn=pytest.fail)


def test_migration_that_fails_leaves_the_file_as_it_was(path: Path) -> None:
    first = TableLayout(application_id=5, version=1, create=("CREATE TABLE a (x)",))
    connect(path, first, warn=pytest.fail).close()
    broken = TableLayout(application_id=5, version=2, create=(), migrations={1: ("DROP TABLE a", "no such statement")})
    with pytest.raises(sqlite3.OperationalError):
        connect(path, broken, warn=pytest.fail)
    database = connect(path, first, warn=pytest.fail)
    assert database.connection.execute("SELECT count(*) FROM a").fetchone() == (0,)
    database.close()


@posix_only
def test_file_that_another_process_has_put_in_place_is_not_moved(path: Path) -> None:
    layout = TableLayout(application_id=5, version=1, create=("CREATE TABLE a (x)",))
    database = connect(path, layout, warn=pytest.fail)
    for file in list(path.parent.iterdir()):
        file.rename(f"{file}-moved")
    connect(path, layout, warn=pytest.fail).close()
    database.move_aside(sqlite3.DatabaseError("damaged"), pytest.fail)
    assert path.exists()
    connect(path, layout, warn=pytest.fail).close()


def test_many_connections_make_one_file_at_once(path: Path) -> None:
    layout = TableLayout(application_id=5, version=1, create=("CREATE TABLE a (x)",))
    failures: list[BaseException] = []

    def make(path: Path) -> None:
        try:
            connect(path, layout, warn=pytest.fail, busy_timeout_s=20).close()
        except BaseException as error:
            failures.append(error)

    for turn in range(10):
        fresh = path.with_name(f"{turn}")
        threads = [threading.Thread(target=make, args=(fresh,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
