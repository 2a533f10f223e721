-- The runs of a report, oldest first, times as text
-- $run = null: only this run
SELECT * REPLACE (strftime(started_at, '%Y-%m-%d %H:%M') AS started_at, strftime(finished_at, '%Y-%m-%d %H:%M') AS finished_at)
FROM runs
WHERE $run::VARCHAR IS NULL OR run_id = $run::VARCHAR
ORDER BY runs.started_at, run_id
