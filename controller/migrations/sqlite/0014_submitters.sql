-- Whose token submitted a job: its id, and its name for people.
ALTER TABLE jobs ADD COLUMN submitter TEXT;
ALTER TABLE jobs ADD COLUMN submitter_name TEXT;
