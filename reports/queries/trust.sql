-- How far the explanations are to be trusted, by task: levels, and the completeness gap
-- $run = null: only runs whose id starts so
SELECT
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    f.task,
    f.filter,
    f.trust,
    count(*) AS failures,
    round(median(f.trust_score), 3) AS median_score,
    round(median(c.completeness_gap), 4) AS median_gap,
    round(max(c.completeness_gap), 4) AS largest_gap
FROM failures AS f
JOIN runs AS r ON r.run_id = f.run_id
JOIN contrasts AS c ON c.failure_id = f.failure_id
WHERE f.status = 'attributed' AND ($run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR))
GROUP BY r.run_id, r.model, r.rule, r.started_at, f.task, f.filter, f.trust
ORDER BY r.started_at, r.run_id, f.task, f.filter, median_score DESC, f.trust
