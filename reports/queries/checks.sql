-- Causal checks by task: how often each turned the answer, beside its control on random places
-- $run = null: only runs whose id starts so
SELECT
    left(r.run_id, 8) AS run,
    r.model,
    r.rule,
    f.task,
    f.filter,
    k."check",
    k.amount,
    count(*) AS failures,
    round(avg(k.turned::INTEGER), 4) AS turned,
    round(avg(k.control_turned), 4) AS control_turned,
    round(avg(k.delta_before), 4) AS delta_before,
    round(avg(k.delta_after), 4) AS delta_after,
    round(avg(k.control), 4) AS control
FROM checks AS k
JOIN failures AS f ON f.failure_id = k.failure_id
JOIN runs AS r ON r.run_id = f.run_id
WHERE f.status <> 'right since' AND ($run::VARCHAR IS NULL OR starts_with(f.run_id, $run::VARCHAR))
GROUP BY r.run_id, r.model, r.rule, r.started_at, f.task, f.filter, k."check", k.amount
ORDER BY r.started_at, r.run_id, f.task, f.filter, k."check", k.amount
