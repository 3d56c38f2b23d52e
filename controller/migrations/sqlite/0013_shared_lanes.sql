-- Jobs that share a GPU have a lane of their own: those that have not ended go there.

UPDATE jobs SET lane = lane || '-shared'
WHERE finished_at IS NULL AND lane LIKE '%.gpu' AND id IN (
    SELECT job_id FROM job_specs WHERE json_extract(spec, '$.resources.gpu.shared') = 1
);
