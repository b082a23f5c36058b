-- The real host: what a VM insists on, its base, its place in the network; things that are made
-- for all VMs; and what was done to the host.

ALTER TABLE vms ADD COLUMN want_vmm     TEXT;     -- NULL: the best the host has, as in the next two
ALTER TABLE vms ADD COLUMN want_network TEXT;
ALTER TABLE vms ADD COLUMN want_overlay TEXT;
ALTER TABLE vms ADD COLUMN base         TEXT;     -- sha256 of the base that its disk is a snapshot of
ALTER TABLE vms ADD COLUMN network      TEXT;     -- the kind of network of the last run
ALTER TABLE vms ADD COLUMN place        INTEGER CHECK (place BETWEEN 2 AND 1022);  -- in the subnet
CREATE UNIQUE INDEX vms_place ON vms (place);

-- An entry without a VM is of something all VMs share, such as the bridge.
ALTER TABLE ledger RENAME TO ledger_1;
CREATE TABLE ledger (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    vm      TEXT REFERENCES vms (id) ON DELETE RESTRICT,
    kind    TEXT NOT NULL,
    key     TEXT NOT NULL,
    detail  TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;
INSERT INTO ledger (id, vm, kind, key, detail, created)
    SELECT id, vm, kind, key, detail, created FROM ledger_1;
-- Numbers are never used twice, also not those of entries that are gone already.
UPDATE sqlite_sequence SET seq = (SELECT seq FROM sqlite_sequence WHERE name = 'ledger_1')
    WHERE name = 'ledger' AND EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'ledger_1');
INSERT INTO sqlite_sequence (name, seq)
    SELECT 'ledger', seq FROM sqlite_sequence
    WHERE name = 'ledger_1' AND NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'ledger');
DROP TABLE ledger_1;
CREATE UNIQUE INDEX ledger_thing ON ledger (coalesce(vm, ''), kind, key);

-- What was done to the host, in a form that can be copied. The newest only.
CREATE TABLE calls (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    vm      TEXT,
    command TEXT NOT NULL,
    took_us INTEGER NOT NULL,
    error   TEXT                             -- NULL: it worked
) STRICT;
