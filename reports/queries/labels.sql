-- What kind of failure, by task: labels decided by experiment, with their share of the attributed failures
-- $run = null: only runs whose id starts so
-- M-IA: manifest in the input attribution; M-AG: in the attribution graph; NC: no clue from either; empty: not decided.
SELECT
    r.model,
    f.task,
    f.filter,
    f.label,
    count(*) AS failures,
    round(count(*) / sum(count(*)) OVER (PARTITION BY r.run_id, f.task, f.filter), 4) AS share,
    round(avg(f.trust_score), 3) AS mean_trust
FROM failures AS f
JOIN runs AS r ON r.run_id = f.run_id
WHERE f.status = 'attributed' AND ($run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR))
GROUP BY r.run_id, r.model, r.started_at, f.task, f.filter, f.label
ORDER BY r.started_at, r.run_id, f.task, f.filter, failures DESC, f.label
