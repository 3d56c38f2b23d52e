#!/usr/bin/env python3
"""A minter of run keys for Longshore: reads one JSON document on stdin, answers one on stdout.

This sample keeps its keys in an SQLite file. Replace `make` and `unmake` by what your platform has for making a key
for one mission and taking it back; keep the rest: it is what makes repeats and late calls harmless.
"""

import argparse
import json
import sqlite3
import sys
import time
import uuid


def make(run):
    """A new key for one mission, with the right that the job asks for."""
    # run["mission_uuid"], run["access"] and run["valid_seconds"] say what it is for.
    return str(uuid.uuid4())


def unmake(key):
    """Takes a key back. One that is gone is fine."""


def mint(store, run):
    found = store.execute("SELECT key, revoked FROM keys WHERE run = ?", (run["run"],)).fetchone()
    if found and found[1]:
        sys.exit("the run is over: its key was taken back")
    if not found:
        found = (make(run), 0)
        row = (run["run"], found[0], run["mission_uuid"], run["access"])
        store.execute("INSERT INTO keys (run, key, mission, access) VALUES (?, ?, ?, ?)", row)
    return {"key": found[0]}


def revoke(store, run):
    found = store.execute("SELECT key FROM keys WHERE run = ?", (run["run"],)).fetchone()
    if found:
        unmake(found[0])
    # Also of a run that never got one: a call that is late must not make one any more.
    store.execute(
        "INSERT INTO keys (run, revoked) VALUES (?, 1) ON CONFLICT (run) DO UPDATE SET revoked = 1",
        (run["run"],),
    )
    return {}


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--store", required=True, help="the file with the keys")
    arguments.add_argument("--pause", type=float, default=0, help="seconds before the answer, for tests")
    arguments.add_argument("--list", action="store_true", help="print every run, its key and whether it is good")
    asked = arguments.parse_args()
    store = sqlite3.connect(asked.store, timeout=10)
    with store:
        store.execute(
            "CREATE TABLE IF NOT EXISTS keys "
            "(run TEXT PRIMARY KEY, key TEXT, mission TEXT, access TEXT, revoked INTEGER NOT NULL DEFAULT 0)"
        )
    if asked.list:
        for run, key, mission, access, revoked in store.execute("SELECT * FROM keys ORDER BY rowid"):
            print(run, key or "-", mission or "-", access or "-", "revoked" if revoked else "good")
        return
    run = json.load(sys.stdin)
    with store:
        answer = {"mint": mint, "revoke": revoke}[run["action"]](store, run)
    time.sleep(asked.pause if run["action"] == "mint" else 0)
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
