-- What jobs are made of: other jobs' outputs and uploaded inputs. Neither may go before the jobs that name them
-- have ended.
CREATE TABLE job_sources (
    job_id BLOB NOT NULL,
    -- `job` (a short id) or `input`
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (job_id, kind, name)
) WITHOUT ROWID;

CREATE INDEX job_sources_name ON job_sources (kind, name);

INSERT INTO job_sources (job_id, kind, name)
    SELECT DISTINCT s.job_id, 'job', i.value->>'$.job.job' FROM job_specs AS s, json_each(s.spec, '$.inputs') AS i
    WHERE i.value->>'$.job.job' IS NOT NULL;

INSERT INTO job_sources (job_id, kind, name)
    SELECT DISTINCT s.job_id, 'input', i.value->>'$.uploaded.id' FROM job_specs AS s, json_each(s.spec, '$.inputs') AS i
    WHERE i.value->>'$.uploaded.id' IS NOT NULL;
