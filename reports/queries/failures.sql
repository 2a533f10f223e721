-- A list of explained failures: prediction, gold, the pair of tokens, label and trust
-- $run = null: only runs whose id starts so
-- $task = null: only this task
-- $label = null: only this label
-- $limit = 50: at most so many
SELECT
    f.failure_id,
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    f.task,
    f.filter,
    f.doc_id,
    left(f.prediction, 80) AS prediction,
    left(f.gold, 80) AS gold,
    c.target,
    c.contrast,
    round(c.delta_logit, 3) AS delta_logit,
    c.clean,
    f.label,
    f.pattern,
    f.trust
FROM failures AS f
JOIN runs AS r ON r.run_id = f.run_id
JOIN contrasts AS c ON c.failure_id = f.failure_id
WHERE f.status = 'attributed'
    AND ($run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR))
    AND ($task::VARCHAR IS NULL OR f.task = $task::VARCHAR)
    AND ($label::VARCHAR IS NULL OR f.label = $label::VARCHAR)
ORDER BY r.started_at, r.run_id, f.task, f.filter, f.doc_id, f.failure_id
LIMIT $limit::BIGINT
