-- Agents whose process or machine ended while they had the job: a list of ids in hex.
ALTER TABLE jobs ADD COLUMN died_on TEXT NOT NULL DEFAULT '[]';

-- How many controllers granted the attempt a whole lease since its agent was last heard of.
ALTER TABLE attempts ADD COLUMN unheard BIGINT NOT NULL DEFAULT 0;
-- When the last of these leases ends, on the controllers' own clock.
ALTER TABLE attempts ADD COLUMN lease_until BIGINT;
-- Objects with an ordinal below this may have been uploaded.
ALTER TABLE attempts ADD COLUMN opened BIGINT NOT NULL DEFAULT 0;
