-- Each project's part of a lane is read on its own, so that no project's jobs stand before another's.
DROP INDEX jobs_claim;
CREATE INDEX jobs_claim ON jobs (lane, project, rank, queued_at, id, cpu, memory, scratch, gpus) WHERE state = 'queued';
