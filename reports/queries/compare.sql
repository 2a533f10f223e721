-- The same pairs under two runs, Δℓ against Δℓ: what another model, size or checkpoint makes of the failures
-- $run = null: only pairs of runs whose first run's id starts so
-- $task = null: only this task
-- A pair is corrected where the second run prefers the right token (Δℓ ≤ 0).
SELECT
    a.task,
    a.filter,
    a.doc_id,
    left(a.run_id, 8) AS run_a,
    left(b.run_id, 8) AS run_b,
    ra.model AS model_a,
    rb.model AS model_b,
    ra.rule AS rule_a,
    rb.rule AS rule_b,
    ca.target,
    ca.contrast,
    round(ca.delta_logit, 4) AS delta_a,
    round(cb.delta_logit, 4) AS delta_b,
    cb.delta_logit <= 0 AS corrected,
    a.failure_id AS failure_a,
    b.failure_id AS failure_b
FROM failures AS a
JOIN contrasts AS ca ON ca.failure_id = a.failure_id
JOIN runs AS ra ON ra.run_id = a.run_id
JOIN failures AS b ON b.task = a.task AND b.filter = a.filter AND b.doc_id = a.doc_id AND b.run_id <> a.run_id
JOIN contrasts AS cb
    ON cb.failure_id = b.failure_id
    AND cb.input_ids = ca.input_ids
    AND cb.target_id = ca.target_id
    AND cb.contrast_id = ca.contrast_id
    AND cb.objective = ca.objective
JOIN runs AS rb ON rb.run_id = b.run_id
WHERE
    a.status = 'attributed'
    AND b.status = 'attributed'
    AND (ra.started_at, ra.run_id) < (rb.started_at, rb.run_id)
    AND ($run::VARCHAR IS NULL OR starts_with(a.run_id, $run::VARCHAR))
    AND ($task::VARCHAR IS NULL OR a.task = $task::VARCHAR)
ORDER BY ra.started_at, rb.started_at, a.task, a.filter, a.doc_id, a.failure_id, b.failure_id
