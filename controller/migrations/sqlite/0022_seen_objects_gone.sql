-- When an object was first missed. One that is back as it was is not new: a folder may be unmounted for a while.
ALTER TABLE trigger_seen ADD COLUMN gone_at BIGINT;
