-- Images of the user's: what a VM's disk was made from, and for whom VMs are made that help to
-- build an image.

ALTER TABLE vms ADD COLUMN made_from TEXT;   -- sha256 of the image's content; NULL: nobody wrote it down
ALTER TABLE vms ADD COLUMN helper_of TEXT;   -- the staged image it helps to make; NULL: an ordinary VM

-- A snapshot is of what it was made from.
UPDATE vms SET made_from = base;

-- A VM can be about to get a new disk: another state.
ALTER TABLE vms ADD COLUMN state_3 TEXT NOT NULL DEFAULT 'creating'
    CHECK (state_3 IN ('creating', 'ready', 'recreating', 'deleting'));
UPDATE vms SET state_3 = state;
ALTER TABLE vms DROP COLUMN state;
ALTER TABLE vms RENAME COLUMN state_3 TO state;
