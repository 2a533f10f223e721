-- The failures of a report with their pairs, long texts cut; in a task the explained ones first, by document
-- $run = null: only this run
SELECT
    f.failure_id, f.run_id, f.task, f.filter, f.doc_id,
    left(f.prediction, 400) AS prediction,
    left(f.gold, 400) AS gold,
    f.status,
    left(f.reason, 400) AS reason,
    f.label, f.pattern, f.trust, f.trust_score,
    c.strategy, c.objective, c.target_id, c.target, c.contrast_id, c.contrast, c.delta_logit, c.clean, c.unclean
FROM failures AS f
LEFT JOIN contrasts AS c ON c.failure_id = f.failure_id
WHERE $run::VARCHAR IS NULL OR f.run_id = $run::VARCHAR
ORDER BY f.run_id, f.task, f.filter, f.status <> 'attributed', f.doc_id, f.failure_id
