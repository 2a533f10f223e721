-- Mean over a task's explained failures of each segment's normalised relevance; a failure without the segment counts as 0
-- $run = null: only this run
WITH explained AS (
    SELECT run_id, task, filter, count(*) AS failures
    FROM failures
    WHERE status = 'attributed' AND ($run::VARCHAR IS NULL OR run_id = $run::VARCHAR)
    GROUP BY ALL
)
SELECT
    e.run_id, e.task, e.filter, s.segment,
    sum(s.relevance_norm) / any_value(e.failures) AS mean,
    count(*) AS failures
FROM segments AS s
JOIN failures AS f ON f.failure_id = s.failure_id
JOIN explained AS e ON e.run_id = f.run_id AND e.task = f.task AND e.filter = f.filter
WHERE f.status = 'attributed' AND isfinite(s.relevance_norm)
GROUP BY e.run_id, e.task, e.filter, s.segment
ORDER BY e.run_id, e.task, e.filter, abs(sum(s.relevance_norm)) DESC, s.segment
