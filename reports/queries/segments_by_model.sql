-- Which part of the prompt carries the relevance, by task and model: for comparing sizes and checkpoints
-- $task = null: only this task
-- Relevance is normalised within a failure, so that models compare. toward_wrong and toward_right are the means over
-- failures of its positive and negative segment sums; a failure without the segment counts as 0.
WITH explained AS (
    SELECT run_id, task, filter, count(*) AS failures
    FROM failures
    WHERE status = 'attributed' AND ($task::VARCHAR IS NULL OR task = $task::VARCHAR)
    GROUP BY ALL
)
SELECT
    e.task,
    e.filter,
    s.segment,
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    any_value(e.failures) AS failures,
    round(sum(s.relevance_norm) / any_value(e.failures), 4) AS mean,
    round(sum(greatest(s.relevance_norm, 0)) / any_value(e.failures), 4) AS toward_wrong,
    round(sum(least(s.relevance_norm, 0)) / any_value(e.failures), 4) AS toward_right,
    round(sum(s.tokens) / any_value(e.failures), 1) AS tokens
FROM segments AS s
JOIN failures AS f ON f.failure_id = s.failure_id
JOIN explained AS e ON e.run_id = f.run_id AND e.task = f.task AND e.filter = f.filter
JOIN runs AS r ON r.run_id = f.run_id
WHERE f.status = 'attributed'
GROUP BY e.task, e.filter, s.segment, r.run_id, r.model, r.rule, r.started_at
ORDER BY e.task, e.filter, s.segment, r.started_at, r.run_id
