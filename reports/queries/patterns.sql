-- How the input misled the model, by task: the patterns of labelled failures
-- OIT: overweighted irrelevant tokens; URT: underweighted relevant tokens; or both.
-- $run = null: only runs whose id starts so
SELECT
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    f.task,
    f.filter,
    f.label,
    f.pattern,
    count(*) AS failures
FROM failures AS f
JOIN runs AS r ON r.run_id = f.run_id
WHERE f.label IS NOT NULL AND f.status <> 'right since' AND ($run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR))
GROUP BY r.run_id, r.model, r.rule, r.started_at, f.task, f.filter, f.label, f.pattern
ORDER BY r.started_at, r.run_id, f.task, f.filter, failures DESC, f.label, f.pattern
