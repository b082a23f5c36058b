-- The first schema. A migration that has been released is never edited: add the next number.

-- What belongs to no VM: which banger wrote the file last.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- What the user wants, and how the last run went. Whether a VM runs is not in here: its
-- monitor's lock says so.
CREATE TABLE vms (
    id         TEXT PRIMARY KEY CHECK (length(id) = 8),
    name       TEXT NOT NULL UNIQUE,
    image      TEXT NOT NULL,
    vcpus      INTEGER NOT NULL CHECK (vcpus > 0),
    memory_mib INTEGER NOT NULL CHECK (memory_mib > 0),
    disk_mib   INTEGER CHECK (disk_mib > 0),
    restore    INTEGER NOT NULL CHECK (restore IN (0, 1)),
    wanted     TEXT NOT NULL CHECK (wanted IN ('running', 'stopped')),
    state      TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'deleting')),
    overlay    TEXT NOT NULL,
    created    INTEGER NOT NULL,             -- milliseconds since 1970, as all times here
    vmm        TEXT,                         -- what ran it last
    ssh_port   INTEGER CHECK (ssh_port BETWEEN 1 AND 65535),  -- on 127.0.0.1, last used
    started    INTEGER,                      -- when the last run began
    last_exit  TEXT,                         -- JSON; NULL while a run is open
    last_boot  TEXT NOT NULL DEFAULT '[]'    -- JSON
) STRICT, WITHOUT ROWID;

-- What was made on the host for a VM, written before it is made and removed after it is gone.
-- A VM that has entries cannot be removed.
CREATE TABLE ledger (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    vm      TEXT NOT NULL REFERENCES vms (id) ON DELETE RESTRICT,
    kind    TEXT NOT NULL,
    key     TEXT NOT NULL,
    detail  TEXT NOT NULL,                   -- JSON
    created INTEGER NOT NULL,
    UNIQUE (vm, kind, key)
) STRICT;

-- What happened; outlives the VMs it is about.
CREATE TABLE events (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    at    INTEGER NOT NULL,
    level TEXT NOT NULL CHECK (level IN ('info', 'warning', 'error')),
    vm    TEXT,
    text  TEXT NOT NULL,
    hint  TEXT NOT NULL
) STRICT;
