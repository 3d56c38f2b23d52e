#!/usr/bin/env python3
"""A minter of run keys for Longshore: reads one JSON document on stdin, answers one on stdout.

Replace `make` and `unmake` by what your platform has for making a key for one mission and taking it back. Keep the
rest, and one thing about those two: a key is *named by its run*. So it can be taken back also when this program ended
after the platform had made it and before anybody was told.
"""

import argparse
import contextlib
import json
import sqlite3
import sys
import time
import uuid


def make(store, run):
    """A new key for one mission, with the right that the job asks for, named by its run. A table stands for the platform."""
    # run["mission_uuid"], run["access"] and run["valid_seconds"] say what it is for, run["submitter"] who wants it.
    # Whether he may is yours to decide: sys.exit("why not") refuses.
    key = str(uuid.uuid4())
    row = (run["run"], key, run["mission_uuid"], run["access"])
    store.execute("INSERT INTO platform (name, key, mission, access) VALUES (?, ?, ?, ?)", row)
    return key


def unmake(store, name):
    """Takes back every key of this name. That there is none is fine."""
    store.execute("UPDATE platform SET good = 0 WHERE name = ?", (name,))


def mint(store, run, pauses):
    name = (run["run"],)
    with alone(store):
        store.execute("INSERT INTO runs (run) VALUES (?) ON CONFLICT (run) DO NOTHING", name)
        key, over = store.execute("SELECT key, over FROM runs WHERE run = ?", name).fetchone()
    if over:
        sys.exit("the run is over: its key was taken back")
    if key:
        return {"key": key}
    time.sleep(pauses[0])
    key = make(store, run)
    time.sleep(pauses[1])
    with alone(store):
        noted = store.execute("UPDATE runs SET key = ? WHERE run = ? AND NOT over", (key, *name)).rowcount
    if not noted:
        # It was revoked meanwhile, when there was nothing to take back yet.
        unmake(store, *name)
        sys.exit("the run was over before its key was made")
    return {"key": key}


def revoke(store, run):
    name = (run["run"],)
    # Also of a run that never got one: a call that is late must not make one any more.
    store.execute("INSERT INTO runs (run, over) VALUES (?, 1) ON CONFLICT (run) DO UPDATE SET over = 1", name)
    unmake(store, *name)
    return {}


@contextlib.contextmanager
def alone(store):
    """What is looked at and what is changed are one step; no other call comes between."""
    store.execute("BEGIN IMMEDIATE")
    yield
    store.execute("COMMIT")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--store", required=True, help="the file with the keys")
    pause = {"type": float, "default": 0, "metavar": "SECONDS"}
    arguments.add_argument("--pause-before", **pause, help="before a key is made, for tests")
    arguments.add_argument("--pause", **pause, help="after a key is made, for tests")
    arguments.add_argument("--list", action="store_true", help="print run, key, mission, access, good|revoked of each")
    asked = arguments.parse_args()
    store = sqlite3.connect(asked.store, timeout=10, isolation_level=None)
    store.execute("CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, key TEXT, over INTEGER NOT NULL DEFAULT 0)")
    store.execute(
        "CREATE TABLE IF NOT EXISTS platform "
        "(name TEXT, key TEXT, mission TEXT, access TEXT, good INTEGER NOT NULL DEFAULT 1)"
    )
    if asked.list:
        for run, key, mission, access, good in store.execute("SELECT * FROM platform ORDER BY rowid"):
            print(run, key, mission or "-", access, "good" if good else "revoked")
        for (run,) in store.execute("SELECT run FROM runs WHERE run NOT IN (SELECT name FROM platform)"):
            print(run, "-", "-", "-", "none")
        return
    run = json.load(sys.stdin)
    answer = mint(store, run, (asked.pause_before, asked.pause)) if run["action"] == "mint" else revoke(store, run)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
