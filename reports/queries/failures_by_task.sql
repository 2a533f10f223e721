-- Documents, failures, score and what became of the failures, by model and task
-- $run = null: only runs whose id starts so
-- A task with several filters has a row for each: they judge the same documents.
SELECT
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    t.task,
    t.filter,
    t.metric,
    t.documents,
    t.failures,
    t.score,
    t.attributed,
    t.clean,
    t.no_pair,
    t.no_answer,
    t.not_sampled,
    t.errors,
    t.not_attributable
FROM tasks AS t
JOIN runs AS r ON r.run_id = t.run_id
WHERE $run::VARCHAR IS NULL OR starts_with(t.run_id, $run::VARCHAR)
ORDER BY r.started_at, r.run_id, t.task, t.filter
