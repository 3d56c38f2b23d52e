-- Jobs that wait for others; which ones is in job_sources, as `after_succeeded`, `after_failed` and `after_finished`.
ALTER TABLE jobs ADD COLUMN blocked BIGINT NOT NULL DEFAULT 0;
