-- What an attempt used of its GPUs, as JSON; absent while it is not over.
ALTER TABLE attempts ADD COLUMN gpu_usage TEXT;
